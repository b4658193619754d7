"""Tests that take long: `make test` runs them first, `make test-fast` leaves them out.

A new test is a fast one until it is listed here. A file whose tests are all slow stands for itself.
"""

import ast
from pathlib import Path

TESTS = Path(__file__).parent

#: Seconds of one core that all tests of a file take, roughly, from an empty cache of programs, where they are many.
SECONDS = {
    "test_devices_of_commands.py": 100,
    "test_parallel.py": 90,
    "test_export.py": 90,
    "test_search_processes.py": 80,
    "test_search_resume.py": 75,
    "test_supernet.py": 70,
    "test_bilevel.py": 65,
    "test_edge_options.py": 65,
    "test_own_images.py": 60,
    "test_search_seeds.py": 60,
    "test_optimizers.py": 50,
    "test_pipeline.py": 50,
    "test_fixture_search.py": 45,
    "test_fixture_variant_networks.py": 40,
    "test_discrete.py": 30,
    "test_plain_supernet.py": 30,
    "test_depthwise.py": 30,
    "test_neumann.py": 40,
    "test_mixing.py": 25,
    "test_train_resume.py": 25,
    "test_language_resume.py": 20,
    "test_search_input.py": 20,
    "test_fixture_hypergradient.py": 20,
    "test_separable.py": 20,
    "test_search_devices.py": 20,
}

#: Slow tests by file; all of a file's where no names are given.
SLOW: dict[str, tuple[str, ...]] = {
    "test_benchmark_harness.py": ("test_processes_take_steps_in_turn",),
    "test_benchmark_pytorch.py": (),
    "test_benchmark_recurrent.py": (),
    "test_bilevel.py": (
        "test_exact_is_the_gradient_through_the_virtual_step",
        "test_exact_serves_losses_without_a_forward_mode",
        "test_pure_under_jit_vmap_and_scan",
        "test_two_devices_take_the_step_of_one_with_the_whole_batch",
    ),
    "test_checkpoint.py": ("test_a_death_at_any_file_operation_leaves_a_complete_checkpoint",),
    "test_damaged_records.py": (),
    "test_depthwise.py": (
        "test_agrees_with_plain_loops",
        "test_rectified_is_the_convolution_of_the_relu",
        "test_second_derivatives",
        "test_several_devices",
    ),
    "test_depthwise_native.py": ("test_results_are_bit_identical_whatever_the_threads",),
    "test_describe.py": ("test_published_numbers",),
    "test_devices_of_commands.py": (),
    "test_discrete.py": ("test_a_network_is_the_plain_one", "test_noise_takes_the_place_of_an_output"),
    "test_drawing.py": (
        "test_neither_labels_nor_nodes_overlap_and_all_is_inside_the_picture",
        "test_the_same_genotype_gives_the_same_bytes_whatever_the_users_settings",
    ),
    "test_edge_options.py": (
        "test_derivatives_of_both_modes_to_second_order_natively_and_in_operations_of_xla",
        "test_training_and_evaluation_are_those_of_the_plain_network",
        "test_vmap_and_cells_that_are_computed_again_give_the_same_numbers",
    ),
    "test_export.py": (),
    "test_fixture_hypergradient.py": (),
    "test_fixture_networks.py": (),
    "test_fixture_recurrent.py": ("test_architecture_step",),
    "test_fixture_search.py": (),
    "test_fixture_variant_networks.py": (),
    "test_initial.py": ("test_every_array_has_the_distribution_of_the_networks_own_initial_values",),
    "test_language_input.py": (),
    "test_language_resume.py": (),
    "test_language_search_step.py": ("test_all_passes_of_a_step_share_their_masks",),
    "test_large_images.py": (
        "test_a_killed_training_leaves_no_workers",
        "test_a_training_that_dies_resumes_with_the_same_images",
    ),
    "test_launch.py": (),
    "test_memory_options.py": (),
    "test_mixing.py": (
        "test_derivatives_in_both_modes_to_second_order",
        "test_derivatives_of_both_modes_to_second_order",
        "test_its_derivatives_are_those_of_the_plain_form",
        "test_narrow_maps_have_wide_statistics_and_derivatives_close_to_the_wide_ones",
        "test_synchronised_statistics_are_those_of_the_whole_batch",
        "test_vmap_of_derivatives_is_a_loop",
    ),
    "test_native_mixing.py": (
        "test_results_are_bit_identical_whatever_the_threads",
        "test_sums_and_products_are_those_of_numpy_and_jnp",
    ),
    "test_optimizers.py": (),
    "test_output_losses.py": (),
    "test_own_images.py": (),
    "test_parallel.py": ("test_five_steps_on_many_devices_are_those_on_one",),
    "test_pasted_genotypes.py": ("test_commands_take_what_people_paste",),
    "test_pipeline.py": (),
    "test_plain_supernet.py": (
        "test_fixture_first_order_gradients",
        "test_fixture_implicit_term_by_a_second_derivative",
        "test_fixture_logits_and_loss",
        "test_fixture_training_gradients",
    ),
    "test_pool.py": (
        "test_derivatives_of_both_modes_to_second_order",
        "test_images_of_any_width_and_height",
        "test_maxima_and_what_moves_along_them_are_those_of_plain_loops",
        "test_vmap_is_a_loop",
    ),
    "test_run_folder.py": ("test_a_run_stops_at_the_first_write_when_its_folder_is_changed",),
    "test_run_json.py": ("test_a_sealed_record_that_is_wrong_stops_the_run",),
    "test_search_cell.py": (
        "test_derivatives_of_gradients",
        "test_lanes_of_vmap",
        "test_tangents_of_results_and_gradients",
        "test_tangents_of_the_matrices_gradients_are_left_out_where_nobody_asks",
        "test_the_loss_of_a_search_has_a_forward_mode",
        "test_the_network_takes_it_on_a_cpu",
    ),
    "test_search_devices.py": (),
    "test_search_input.py": (),
    "test_search_killed.py": (),
    "test_search_processes.py": (),
    "test_search_resume.py": (),
    "test_search_seeds.py": (),
    "test_separable.py": (),
    "test_supernet.py": (
        "test_evaluation_mode_is_the_plain_network",
        "test_initial_values_are_those_of_pytorch",
        "test_noise_is_drawn_from_its_own_key",
        "test_training_mode_is_the_plain_network",
    ),
    "test_torch_file.py": ("test_costly_pickles_are_refused_at_once",),
    "test_train_resume.py": (),
}


def is_slow(file: str, test: str) -> bool:
    """Whether a test, by its function's name, is slow."""
    return file in SLOW and (not SLOW[file] or test in SLOW[file])


def functions(path: Path) -> list[str]:
    """The names of the test functions of a file."""
    body = ast.parse(path.read_text()).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
