"""Tests that take long: `make test` runs them first, `make test-fast` leaves them out.

A new test is a fast one until it is listed here. A file whose tests are all slow stands for itself.
"""

import ast
from pathlib import Path

TESTS = Path(__file__).parent

#: Seconds of one core that all tests of a file take, roughly, from an empty cache of programs, where they are many.
SECONDS = {
    "test_parallel.py": 65,
    "test_search_processes.py": 65,
    "test_fixture_search.py": 55,
    "test_pipeline.py": 50,
    "test_edge_options.py": 45,
    "test_optimizers.py": 40,
    "test_bilevel.py": 40,
    "test_mixing.py": 40,
    "test_search_cell.py": 40,
    "test_supernet.py": 35,
    "test_neumann.py": 35,
    "test_plain_supernet.py": 35,
    "test_search_resume.py": 35,
    "test_choice_darts.py": 30,
    "test_run_start.py": 30,
    "test_train_resume.py": 30,
    "test_own_images.py": 30,
    "test_operations.py": 30,
    "test_fixture_methods.py": 30,
    "test_choice_examples.py": 25,
    "test_own_network.py": 20,
    "test_export.py": 25,
    "test_discrete.py": 25,
    "test_devices_of_commands.py": 25,
    "test_deciding.py": 25,
    "test_stages.py": 25,
    "test_search_killed.py": 20,
    "test_shared_weights.py": 20,
    "test_search_seeds.py": 20,
    "test_stopping.py": 20,
    "test_depthwise_forms.py": 20,
    "test_fixture_variant_networks.py": 15,
    "test_pasted_genotypes.py": 15,
    "test_native_mixing.py": 15,
    "test_output_losses.py": 15,
    "test_method_contract.py": 35,
    "test_search_devices.py": 25,
    "test_search_input.py": 15,
    "test_separable.py": 15,
    "test_depthwise.py": 15,
    "test_memory_options.py": 15,
    "test_fixture_hypergradient.py": 15,
    "test_language_guards.py": 15,
    "test_cross_checks.py": 15,
    "test_language_resume.py": 10,
    "test_pool.py": 10,
    "test_language_model.py": 10,
    "test_launch.py": 10,
    "test_large_images.py": 10,
    "test_benchmark_harness.py": 10,
    "test_language_search_step.py": 10,
    "test_steps_per_call.py": 25,
    "test_pointwise.py": 10,
}

#: Slow tests by file; all of a file's where no names are given.
SLOW: dict[str, tuple[str, ...]] = {
    "test_allocator.py": ("test_steps_take_no_new_memory_from_the_system",),
    "test_benchmark_accelerator.py": ("test_one_part_from_its_process_to_the_tables",),
    "test_benchmark_harness.py": (
        "test_processes_take_steps_in_turn",
        "test_wrong_options_end_with_one_line",
    ),
    "test_benchmark_pytorch.py": (),
    "test_benchmark_recurrent.py": (),
    "test_bilevel.py": (
        "test_exact_is_the_gradient_through_the_virtual_step",
        "test_exact_serves_losses_without_a_forward_mode",
        "test_pure_under_jit_vmap_and_scan",
        "test_two_devices_take_the_step_of_one_with_the_whole_batch",
    ),
    "test_choice_darts.py": (),
    "test_choice_examples.py": (
        "test_an_example_is_a_command_that_resumes",
        "test_the_exact_hypergradient_is_the_gradient_through_the_unrolled_step",
    ),
    "test_checkpoint.py": ("test_a_death_at_any_file_operation_leaves_a_complete_checkpoint",),
    "test_compare_methods.py": ("test_a_finished_method_is_not_repeated",),
    "test_cross_checks.py": ("test_devices_that_share_the_batches_take_the_step_of_one",),
    "test_damaged_records.py": (),
    "test_deciding.py": (
        "test_devices_share_the_batches_that_score_supernets",
        "test_each_seed_decides_what_it_decides_alone",
        "test_fixed_alphas_stay_where_they_started",
    ),
    "test_depthwise.py": (
        "test_agrees_with_plain_loops",
        "test_rectified_is_the_convolution_of_the_relu",
        "test_second_derivatives",
        "test_several_devices",
    ),
    "test_depthwise_forms.py": (
        "test_derivatives_of_both_modes_to_second_order",
        "test_every_form_adds_up_terms_and_sums_narrow_numbers_in_wide_ones",
        "test_every_form_is_the_definition",
    ),
    "test_depthwise_native.py": ("test_results_are_bit_identical_whatever_the_threads",),
    "test_derive_command.py": ("test_a_running_search",),
    "test_describe.py": ("test_published_numbers",),
    "test_devices_of_commands.py": (),
    "test_discrete.py": (
        "test_a_network_is_the_plain_one",
        "test_noise_takes_the_place_of_an_output",
    ),
    "test_drawing.py": (
        "test_neither_labels_nor_nodes_overlap_and_all_is_inside_the_picture",
        "test_the_same_genotype_gives_the_same_bytes_whatever_the_users_settings",
    ),
    "test_edge_options.py": (
        "test_derivatives_of_both_modes_to_second_order_natively_and_in_operations_of_xla",
        "test_devices_that_share_a_batch_find_its_numbers",
        "test_narrow_feature_maps",
        "test_training_and_evaluation_are_those_of_the_plain_network",
        "test_vmap_and_cells_that_are_computed_again_give_the_same_numbers",
    ),
    "test_export.py": (),
    "test_extend.py": ("test_searches_of_several_seeds_get_more_epochs_together",),
    "test_fixture_hypergradient.py": (),
    "test_fixture_methods.py": (
        "test_correlated_gradients_of_cells",
        "test_scores_and_frozen_operations",
        "test_sigmoids_and_zero_one_penalties",
    ),
    "test_fixture_networks.py": (),
    "test_fixture_recurrent.py": ("test_architecture_step",),
    "test_fixture_search.py": (),
    "test_fixture_variant_networks.py": (),
    "test_initial.py": ("test_every_array_has_the_distribution_of_the_networks_own_initial_values",),
    "test_language_guards.py": (
        "test_a_rule_reads_the_eigenvalue_and_gives_the_cell_of_an_earlier_epoch",
        "test_a_search_starts_again_with_more_decay_and_a_death_changes_nothing",
        "test_measuring_changes_no_bit_and_survives_a_death",
        "test_numbers_of_the_epochs_and_of_the_summary",
    ),
    "test_language_input.py": (),
    "test_language_model.py": (
        "test_a_mixture_and_two_derivatives_equal_the_plain_ones",
        "test_padding_changes_nothing",
    ),
    "test_language_resume.py": (),
    "test_language_search_step.py": (
        "test_all_passes_of_a_step_share_their_masks",
        "test_the_alphas_step_on_the_validation_text_and_the_plain_loss",
    ),
    "test_language_trained.py": ("test_the_loaded_model_has_the_perplexity_of_the_result",),
    "test_large_images.py": (
        "test_a_killed_training_leaves_no_workers",
        "test_a_training_that_dies_resumes_with_the_same_images",
        "test_any_place_and_any_number_of_workers_give_the_same_images",
    ),
    "test_launch.py": (),
    "test_memory_options.py": (),
    "test_method_contract.py": ("test_a_search_that_dies_after_its_first_epoch_ends_with_the_same_bits",),
    "test_mixing.py": (
        "test_derivatives_in_both_modes_to_second_order",
        "test_derivatives_of_both_modes_to_second_order",
        "test_its_derivatives_are_those_of_the_plain_form",
        "test_narrow_maps_have_wide_statistics_and_derivatives_close_to_the_wide_ones",
        "test_only_some_stacks_may_change",
        "test_synchronised_statistics_are_those_of_the_whole_batch",
        "test_vmap_of_derivatives_is_a_loop",
    ),
    "test_module_operations.py": (
        "test_a_module_is_an_operation_of_a_network_and_starts_with_its_own_values",
        "test_a_module_keeps_the_contract_of_operations",
        "test_inverted_bottlenecks_beside_separable_convolutions_are_those_of_plain_convolutions",
    ),
    "test_native_mixing.py": (
        "test_infinite_values_have_the_moments_of_numpy",
        "test_results_are_bit_identical_whatever_the_threads",
        "test_sums_and_products_are_those_of_numpy_and_jnp",
    ),
    "test_native_room.py": ("test_without_a_working_compiler_one_line_says_so",),
    "test_neumann.py": (
        "test_no_term_is_the_exact_hypergradient_bit_for_bit",
        "test_the_exact_hypergradient_of_idarts",
        "test_the_finite_difference_of_idarts",
        "test_the_series_is_that_of_whole_jacobians",
        "test_the_series_of_idarts",
    ),
    "test_operations.py": (
        "test_contract_of_every_operation",
        "test_every_operation_is_the_same_natively_and_in_operations_of_xla",
    ),
    "test_optimizers.py": (),
    "test_output_losses.py": (),
    "test_own_images.py": (),
    "test_parallel.py": ("test_five_steps_on_many_devices_are_those_on_one",),
    "test_pasted_genotypes.py": (
        "test_commands_take_what_people_paste",
        "test_texts_of_a_megabyte_are_refused_at_once",
    ),
    "test_pipeline.py": (),
    "test_pipeline_budgets.py": (),
    "test_plain_supernet.py": (
        "test_evaluation_with_the_statistics_of_the_batch_is_training",
        "test_fixture_first_order_gradients",
        "test_fixture_implicit_term_by_a_second_derivative",
        "test_fixture_logits_and_loss",
        "test_fixture_training_gradients",
    ),
    "test_plugins.py": ("test_a_run_records_its_plugin_and_its_checkpoint_names_it",),
    "test_pointwise.py": ("test_values_are_those_of_numpy",),
    "test_pool.py": (
        "test_derivatives_of_both_modes_to_second_order",
        "test_images_of_any_width_and_height",
        "test_maxima_and_what_moves_along_them_are_those_of_plain_loops",
        "test_vmap_is_a_loop",
    ),
    "test_run_folder.py": ("test_a_run_stops_at_the_first_write_when_its_folder_is_changed",),
    "test_run_json.py": ("test_a_sealed_record_that_is_wrong_stops_the_run",),
    "test_run_start.py": (
        "test_a_pipeline_on_images_of_28_pixels_works_with_the_defaults",
        "test_a_run_that_fails_before_its_first_step_leaves_nothing",
        "test_a_state_that_no_memory_holds",
        "test_a_training_on_images_of_other_sizes_works_with_the_defaults",
    ),
    "test_search_cell.py": (
        "test_derivatives_of_gradients",
        "test_lanes_of_vmap",
        "test_results_and_gradients",
        "test_tangents_of_results_and_gradients",
        "test_tangents_of_the_matrices_gradients_are_left_out_where_nobody_asks",
        "test_the_loss_of_a_search_has_a_forward_mode",
        "test_the_network_takes_it_on_a_cpu",
    ),
    "test_step_on_devices.py": ("test_two_devices_step_as_one_with_every_switch_of_the_supernet",),
    "test_search_input.py": (),
    "test_search_killed.py": (),
    "test_search_processes.py": (),
    "test_search_resume.py": (),
    "test_search_seeds.py": (),
    "test_separable.py": (),
    "test_shared_weights.py": (
        "test_a_search_says_how_its_cells_alone_do",
        "test_every_baseline_proposes_the_cells_that_it_ends_with",
    ),
    "test_stages.py": (
        "test_a_search_that_dies_between_stages_ends_with_the_same_bits",
        "test_a_search_that_dies_within_a_stage_ends_with_the_same_bits",
        "test_folders_that_do_not_fit_are_refused_before_the_first_stage",
        "test_the_last_stage_is_the_run",
        "test_the_optimisers_of_drnas_continue_and_those_of_p_darts_start_again",
        "test_the_rate_falls_once_over_the_stages_of_drnas_and_in_each_of_p_darts",
    ),
    "test_steps_per_call.py": (
        "test_a_training_and_a_search_on_text_take_several_steps",
        "test_methods_with_two_kinds_of_steps",
    ),
    "test_stopping.py": (
        "test_a_death_at_any_change_of_a_file_is_followed_by_the_same_end",
        "test_checkpoints_that_a_rule_may_roll_back_to_stay",
    ),
    "test_study_cell.py": (
        "test_a_search_is_measured_after_every_epoch",
        "test_each_baseline_chooses_a_cell_by_weights_that_random_cells_trained",
    ),
    "test_supernet.py": (
        "test_evaluation_mode_is_the_plain_network",
        "test_initial_values_are_those_of_pytorch",
        "test_noise_is_drawn_from_its_own_key",
        "test_operations_that_are_computed_at_once_are_those_computed_one_by_one",
        "test_training_mode_is_the_plain_network",
    ),
    "test_torch_file.py": ("test_costly_pickles_are_refused_at_once",),
    "test_train_resume.py": (),
    "test_train_step.py": ("test_a_step_is_sgd_with_decay_and_momentum_on_the_clipped_gradient",),
    "test_trees.py": ("test_joining_and_parting_are_each_others_transposes_in_every_mode_and_lane",),
}


def is_slow(file: str, test: str) -> bool:
    """Whether a test, by its function's name, is slow."""
    return file in SLOW and (not SLOW[file] or test in SLOW[file])


def functions(path: Path) -> list[str]:
    """The names of the test functions of a file."""
    body = ast.parse(path.read_text()).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
