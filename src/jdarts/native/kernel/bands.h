// Images cut into bands of rows, and copies of bands with the padding around them.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace jdarts {

// Rows cut into bands of equal height.
struct Bands {
  // At least `wanted` bands and at most `bytes` of buffer each, but no band lower than two tiles.
  Bands(Index rows, Index wanted, Index bytes_per_row, Index tile_rows, Index bytes = 1 << 18) : rows(rows) {
    const Index most = std::max<Index>(1, rows / (2 * tile_rows));
    const Index by_memory = rows * bytes_per_row / bytes;
    const Index pieces = std::clamp<Index>(std::max(wanted, by_memory + 1), 1, most);
    height = (rows + pieces * tile_rows - 1) / (pieces * tile_rows) * tile_rows;
    count = (rows + height - 1) / height;
  }
  Index begin(Index band) const { return band * height; }
  Index end(Index band) const { return std::min(rows, (band + 1) * height); }
  Index rows, height, count;
};

struct BandBuffer {};
struct OtherBuffer {};

// The layout of a padded copy: rows of `planes` planes of pixels, `left` of them padding before the image.
template <typename T>
struct Padding {
  Padding(Index width, Index left, Index planes, Index channels, T filling = T(0))
      : left(left),
        planes(planes),
        channels(channels),
        pixels((width + 2 * left + planes - 1) / planes),
        filling(filling) {
    constexpr Index lanes = Simd<T>::lanes;
    plane = (pixels * channels + 2 * lanes - 1) / lanes * lanes;  // a vector may reach beyond the last pixel
    row = planes * plane;
    if (row * sizeof(T) % 4096 == 0) row += lanes;  // rows 4 KiB apart would compete for the same cache lines
  }

  // Copies `count` rows from `first` on, through a gate of the image's shape if there is one; rows outside the image are
  // padding.
  template <typename From>
  void copy(const From* image, Index height, Index width, Index first, Index count, T* out,
            const From* gate = nullptr) const {
    for (Index h = first; h < first + count; ++h, out += row) {
      if (h < 0 || h >= height) {
        std::fill_n(out, row, filling);
      } else if (planes == 1) {
        std::fill_n(out, left * channels, filling);
        const Index row_of_image = h * width * channels;
        copy_values(image + row_of_image, gate_at(gate, row_of_image), width * channels, out + left * channels);
        std::fill(out + (left + width) * channels, out + row, filling);
      } else {
        std::fill_n(out, row, filling);
        for (Index w = 0; w < width; ++w) {
          const Index pixel = (h * width + w) * channels;
          copy_values(image + pixel, gate_at(gate, pixel), channels,
                      out + (w + left) % 2 * plane + (w + left) / 2 * channels);
        }
      }
    }
  }

  // By how many values column j of the kernel shifts the input.
  void shifts(Index size, Index dilation, Index* shift) const {
    for (Index j = 0; j < size; ++j) shift[j] = j * dilation % planes * plane + j * dilation / planes * channels;
  }

  Index left, planes, channels, pixels, plane, row;
  T filling;
};

}  // namespace jdarts
