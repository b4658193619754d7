// CUDA's driver, as far as launching the device functions needs it. Loaded at run time, so that the library can be built and
// loaded on a machine without it: a program can be compiled there for another machine's GPU.
#pragma once

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace jdarts_cuda {
namespace {

using Stream = struct CUstream_st*;

class Driver {
 public:
  static Driver& get() {
    static Driver driver;
    return driver;
  }

  // Loads compiled device functions for all GPUs. Empty, or what went wrong.
  std::string load(const void* image) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!launch_) return "libcuda.so.1 lacks a function of CUDA 12";
    if (const int code = init_(0)) return failure("cuInit", code);
    void* library = nullptr;
    if (const int code = load_(&library, image, nullptr, nullptr, 0, nullptr, nullptr, 0))
      return failure("cuLibraryLoadData", code);
    libraries_.push_back(library);
    return "";
  }

  // Makes all device functions ready on the current GPU: CUDA would load a function at its first launch, which must not happen
  // while a graph is being recorded.
  std::string prepare() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (libraries_.empty()) return "the device functions are not loaded";
    if (!count_ || !list_) return "";
    for (void* library : libraries_) {
      unsigned count = 0;
      if (const int code = count_(&count, library)) return failure("cuLibraryGetKernelCount", code);
      std::vector<void*> kernels(count);
      if (const int code = list_(kernels.data(), count, library)) return failure("cuLibraryEnumerateKernels", code);
      void* function = nullptr;
      for (void* kernel : kernels)
        if (const int code = function_(&function, kernel)) return failure("cuKernelGetFunction", code);
    }
    return "";
  }

  std::string launch(const char* name, const unsigned (&grid)[3], unsigned threads, Stream stream, void* arguments) {
    void* kernel = kernel_of(name);
    if (!kernel) return std::string("no device function ") + name;
    void* parameters[] = {arguments};
    const int code = launch_(kernel, grid[0], grid[1], grid[2], threads, 1, 1, 0, stream, parameters, nullptr);
    return code ? failure(name, code) : "";
  }

 private:
  Driver() {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!driver) return;
    find(driver, "cuInit", init_);
    find(driver, "cuLibraryLoadData", load_);
    find(driver, "cuLibraryGetKernel", kernel_);
    find(driver, "cuKernelGetFunction", function_);
    find(driver, "cuLibraryGetKernelCount", count_);
    find(driver, "cuLibraryEnumerateKernels", list_);
    find(driver, "cuGetErrorName", error_name_);
    if (init_ && load_ && kernel_ && function_) find(driver, "cuLaunchKernel", launch_);
  }

  template <typename Function>
  static void find(void* driver, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(driver, name));
  }

  // A kernel stands for the function of every GPU: a launch takes that of the current one.
  void* kernel_of(const char* name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    void*& kernel = kernels_[name];
    for (size_t n = 0; !kernel && n < libraries_.size(); ++n)
      if (kernel_(&kernel, libraries_[n], name)) kernel = nullptr;
    return kernel;
  }

  std::string failure(const char* what, int code) const {
    const char* name = nullptr;
    if (error_name_) error_name_(code, &name);
    return std::string(what) + " failed: " + (name ? name : std::to_string(code));
  }

  std::mutex mutex_;
  std::vector<void*> libraries_;
  std::map<std::string, void*> kernels_;
  int (*init_)(unsigned) = nullptr;
  int (*load_)(void**, const void*, int*, void**, unsigned, int*, void**, unsigned) = nullptr;
  int (*kernel_)(void**, void*, const char*) = nullptr;
  int (*function_)(void**, void*) = nullptr;
  int (*count_)(unsigned*, void*) = nullptr;
  int (*list_)(void**, unsigned, void*) = nullptr;
  int (*error_name_)(int, const char**) = nullptr;
  int (*launch_)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**,
                 void**) = nullptr;
};

}  // namespace
}  // namespace jdarts_cuda
