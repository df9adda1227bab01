"""Tests by how long they take: what `make test` runs of them not at all, or in their first case alone.

Made from the times of a run of `make test-all` on two cores (`make test-all ARGS="--durations=0"`).
"""

from __future__ import annotations

from collections.abc import Mapping

LONG: Mapping[str, tuple[str, ...]] = {
    "tests/automl/test_card.py": ("test_limits_name_classes_with_few_rows_and_what_the_folder_holds",),
    "tests/automl/test_fit.py": (
        "test_a_timed_fit_is_replayed_bit_for_bit",
        "test_trials_give_the_same_bits_and_a_replay_too",
    ),
    "tests/automl/test_resume.py": (
        "test_a_fit_of_trials_that_was_stopped_ends_with_the_same_bits",
        "test_kills_at_random_moments_leave_a_model_or_none_and_never_half_of_one",
    ),
    "tests/automl/test_sklearn.py": (
        "test_classes_come_back_as_what_they_were_and_from_disk_as_texts",
        "test_it_goes_into_what_scikit_learn_has",
        "test_what_scikit_learn_asks_of_every_estimator",
    ),
    "tests/bench/test_cuda.py": (
        "test_the_ways_of_a_search_step_agree",
        "test_with_a_gpu_the_script_goes_through_all_steps_and_on_where_it_was",
    ),
    "tests/bench/test_cuda_report.py": (
        "test_compiled_kernels_that_spill_or_use_local_memory_are_found",
        "test_kernels_move_no_single_bytes_and_fence_where_blocks_meet",
    ),
    "tests/bench/test_gpu_benches.py": (
        "test_a_search_loop_is_timed",
        "test_a_supernet_s_step_is_measured_as_on_a_gpu",
        "test_children_are_measured_and_written_case_by_case",
        "test_every_public_op_is_right_and_gives_the_same_bits_twice",
        "test_ways_of_a_search_step_can_be_chosen",
    ),
    "tests/bench/test_gpu_minutes.py": (
        "test_stages_fail_in_every_way_and_the_next_one_runs",
        "test_tests_and_benches_of_the_table_load_without_what_the_machine_lacks",
        "test_the_probe_tells_what_there_is_and_that_there_is_no_gpu",
    ),
    "tests/bench/test_morphism.py": (
        "test_a_first_candidate_that_takes_more_than_all_cost_is_not_trained",
        "test_no_search_takes_more_than_the_cost",
        "test_verdict_is_against_the_best_from_scratch",
    ),
    "tests/cli/test_cli.py": (
        "test_a_search_says_how_long_a_step_takes_in_plain_pytorch",
        "test_an_unknown_label_gets_a_suggestion",
        "test_export_writes_a_checked_file",
        "test_full_disk_in_a_real_process",
        "test_output_that_nobody_reads_any_more_is_no_error",
        "test_run_config_repeats_a_run",
        "test_search_prints_the_derived_network_beside_the_random_one",
    ),
    "tests/cli/test_fit.py": (
        "test_a_process_of_its_own_writes_predictions_to_a_pipe",
        "test_a_timed_fit_of_a_process_predicts",
    ),
    "tests/compare/test_compare.py": (
        "test_bench_refuses_a_comparison_that_is_not_finished",
        "test_bench_writes_what_a_comparison_has_measured",
        "test_command_line_resumes_a_finished_comparison",
        "test_errors_name_what_is_wrong",
        "test_every_estimator_has_cost_and_rank",
        "test_report_draws_and_lists_every_estimator",
        "test_run_that_was_cut_goes_on_to_the_same_estimates",
        "test_table_is_one_more_estimator",
    ),
    "tests/compat/test_networks.py": (
        "test_second_order_search_in_float32_starts_on_the_public_trajectory",
        "test_second_order_search_takes_the_public_trajectory",
    ),
    "tests/config/test_budget.py": ("test_a_shared_network_has_its_share_of_a_budget",),
    "tests/csrc/test_build.py": (
        "test_no_code_of_one_instruction_set_can_stand_for_another",
        "test_the_build_links_a_module_that_imports",
    ),
    "tests/docs/test_examples.py": (
        "test_children",
        "test_drop_in",
        "test_own_space",
        "test_pages_for_developers",
        "test_quickstart_of_the_command",
        "test_search_from_python",
    ),
    "tests/docs/test_readme.py": (
        "test_a_figure_that_is_not_in_the_results_is_noticed",
        "test_the_tables_are_up_to_date",
    ),
    "tests/dropin/test_later_changes.py": ("test_globals_options_and_methods_may_change",),
    "tests/dropin/test_transforms.py": (
        "test_a_compiled_network_still_calls_the_fused_ops",
        "test_an_exported_network_has_only_what_pytorch_has",
        "test_onnx_gives_the_same_outputs",
    ),
    "tests/e2e/test_damage.py": ("test_damage_never_gives_another_result",),
    "tests/e2e/test_names.py": (
        "test_commands_print_them",
        "test_the_network_is_exported",
        "test_the_network_is_exported_for_pytorch",
        "test_the_network_is_tested_and_sees_images",
        "test_the_report_shows_them",
    ),
    "tests/e2e/test_resume.py": (
        "test_interrupt_saves_and_prints_the_command_to_resume",
        "test_killed_run_resumes_with_the_same_bits",
    ),
    "tests/estimators/curves/test_ensemble.py": ("test_calibration_on_curves_whose_truth_is_known",),
    "tests/estimators/test_rungs.py": (
        "test_killed_search_on_workers_resumes_with_the_same_bits",
        "test_steps_have_the_bits_of_one_training_that_was_measured_on_its_way",
    ),
    "tests/estimators/test_train.py": ("test_lamarckian_search_end_to_end_on_the_digits",),
    "tests/export/test_formats.py": (
        "test_onnx_gives_the_same_outputs",
        "test_outputs_that_differ_are_not_written",
        "test_pt2_gives_the_same_outputs",
    ),
    "tests/helpers/test_require_cuda.py": (
        "test_every_skip_fails_where_cuda_is_required",
        "test_skips_are_skips_by_default",
        "test_tests_of_machines_without_a_gpu_are_left_out_where_there_is_one",
        "test_tests_of_ops_on_the_gpu_can_be_selected",
    ),
    "tests/helpers/test_slow.py": (
        "test_of_some_tests_the_first_case_is_kept_and_of_long_ones_none",
        "test_slow_and_not_slow_are_all_and_nothing_needs_the_harness",
    ),
    "tests/kernels/test_flops.py": ("test_a_first_call_within_the_counter_is_counted",),
    "tests/kernels/test_mixed_op.py": ("test_the_environment_forces_an_instruction_set",),
    "tests/kernels/test_registration.py": (
        "test_opcheck_inner_ops_of_mixed_op",
        "test_opcheck_mixed_op",
    ),
    "tests/kernels/test_supernet.py": ("test_opcheck",),
    "tests/nn/test_fused.py": (
        "test_a_network_saves_a_fifth_of_what_eager_saves",
        "test_batches_of_any_size_share_one_compiled_graph",
        "test_fullgraph_compile_gives_the_same",
        "test_partial_cells_compile",
        "test_whole_cells_compile",
    ),
    "tests/predictors/test_predictors.py": ("test_every_setting_resumes_bit_for_bit_and_beats_random",),
    "tests/properties/test_batched_eval.py": ("test_populations_are_evaluated_as_one_after_the_other",),
    "tests/properties/test_genotype.py": (
        "test_any_json_is_a_genotype_or_an_error",
        "test_any_printed_text_is_a_genotype_or_an_error",
    ),
    "tests/properties/test_tables.py": (
        "test_any_csv_is_a_table_or_an_error",
        "test_any_json_is_a_table_or_an_error",
    ),
    "tests/properties/test_texts.py": (
        "test_any_text_is_a_budget_or_an_error",
        "test_any_text_is_an_objective_and_a_constraint_or_an_error",
    ),
    "tests/retrain/test_from_run.py": ("test_export_gives_the_outputs_of_the_network_in_the_file",),
    "tests/retrain/test_inherited.py": (
        "test_gates_are_kept_in_the_file_of_the_network",
        "test_of_several_rungs_the_longest_is_taken_up",
        "test_training_goes_on_from_what_the_search_has_trained",
    ),
    "tests/runs/test_folder.py": (
        "test_a_disk_that_is_full_of_numbers_is_one_line",
        "test_really_full_disk",
    ),
    "tests/search/blackbox/test_blackbox.py": (
        "test_constraints_on_costs_hold_before_anything_is_estimated",
        "test_killed_command_resumes_with_the_same_bits",
    ),
    "tests/search/blackbox/test_dashboard.py": ("test_terminal_shows_trials_while_they_run",),
    "tests/search/blackbox/test_extrapolate.py": (
        "test_a_hopeless_candidate_is_stopped_and_saves_its_flops",
        "test_killed_run_finds_its_trainings_in_their_checkpoints",
        "test_missing_checkpoint_of_a_finished_training_is_named",
        "test_scores_are_medians_of_extrapolated_curves",
        "test_second_training_is_stopped_where_the_test_of_the_resume_cuts_it",
        "test_stopped_run_resumes_with_the_same_bits_and_trains_no_step_twice",
        "test_stopper_is_the_same_after_it_was_told",
        "test_workers_extrapolate_the_same",
    ),
    "tests/search/blackbox/test_inherit.py": (
        "test_run_that_lost_what_came_after_a_checkpoint_takes_it_from_the_candidates",
        "test_stopped_run_resumes_with_the_same_bits_and_trains_nothing_twice",
    ),
    "tests/search/blackbox/test_inherit_supernet.py": (
        "test_stopped_run_resumes_with_the_same_bits_and_another_network_is_refused",
        "test_workers_start_from_it_too_and_from_no_other",
    ),
    "tests/search/blackbox/test_inherit_workers.py": (
        "test_killed_search_resumes_with_the_same_bits_and_trains_nothing_twice",
        "test_two_workers_give_the_bits_of_one",
    ),
    "tests/search/blackbox/test_joint.py": ("test_workers_find_what_one_process_finds",),
    "tests/search/blackbox/test_optuna_study.py": ("test_trials_are_those_of_the_search",),
    "tests/search/blackbox/test_parallel.py": (
        "test_a_store_that_cannot_be_written_ends_the_sitting_and_loses_nothing",
        "test_budget_of_hours_counts_every_worker",
        "test_budget_of_trials_and_its_extension",
        "test_failed_trials_are_logged_and_reported",
        "test_killed_search_resumes_with_the_same_bits_and_runs_no_trial_twice",
        "test_rows_have_the_same_ancestors_whatever_the_timing_and_after_a_stop",
        "test_worker_processes_give_the_bits_of_one",
        "test_zero_cost_scores_do_not_depend_on_the_workers",
    ),
    "tests/search/gradient/test_retraining.py": (
        "test_a_run_that_is_stopped_in_its_training_goes_on_with_the_epochs_it_was_given",
        "test_a_training_that_has_begun_takes_no_other_settings_and_can_go_on",
        "test_a_training_that_is_asked_for_later_is_whole",
        "test_epochs_that_are_named_later_are_taken_whatever_the_budget",
        "test_other_settings_are_taken_until_a_training_begins",
    ),
    "tests/search/gradient/test_search.py": (
        "test_python_interface_in_ten_lines",
        "test_run_stopped_between_stages_resumes",
    ),
    "tests/search/gradient/test_space_search.py": (
        "test_second_order_search_of_a_space_resumes",
        "test_stopped_and_resumed_search_of_a_space_ends_with_the_same_bits",
    ),
    "tests/search/oneshot/test_oneshot.py": (
        "test_a_process_that_is_asked_to_stop_and_one_that_is_killed_go_on",
        "test_command_line_makes_the_same_run",
    ),
    "tests/search/oneshot/test_ranks.py": (
        "test_a_lost_rank_ends_the_run_and_another_number_of_ranks_goes_on",
        "test_a_silent_rank_is_lost_after_its_time",
        "test_a_step_takes_the_mean_gradient_and_moves_nothing_else",
        "test_each_rank_keeps_to_its_own_gpu_and_disagreement_is_noticed",
        "test_paths_and_images_do_not_depend_on_the_number_of_ranks",
        "test_ranks_agree_bit_for_bit",
        "test_stopped_and_resumed_on_as_many_ranks_ends_with_the_same_bits",
        "test_torchrun_searches_and_the_first_rank_reports",
    ),
    "tests/search/oneshot/test_workers.py": (
        "test_killed_search_among_children_goes_on_with_the_same_bits",
        "test_workers_get_slices_and_give_the_scores_of_one_process",
    ),
    "tests/search/workers/test_fork_server.py": ("test_the_folder_that_it_stands_in_has_no_say",),
    "tests/search/workers/test_local_pool.py": (
        "test_a_hung_trial_is_stopped_and_a_slow_one_that_makes_progress_is_not",
        "test_a_slice_that_crashes_is_tried_again_row_by_row",
        "test_a_worker_killed_from_outside_costs_an_attempt_and_no_trial",
        "test_a_worker_that_still_imports_ends_with_its_search",
        "test_faults_of_every_kind_are_recorded_retried_once_and_stop_nothing",
        "test_killing_the_search_loses_only_what_runs_and_leaves_no_worker",
        "test_results_and_failures_of_an_earlier_sitting_are_not_run_again",
        "test_running_trials_say_how_far_they_are",
    ),
    "tests/search/workers/test_ray_pool.py": (
        "test_a_hung_trial_is_stopped_and_a_slow_one_is_watched",
        "test_faults_are_recorded_retried_once_and_stop_nothing",
        "test_shares_of_a_gpu_and_room_in_the_cluster",
        "test_the_search_has_the_bits_of_one_on_processes",
        "test_trials_of_a_lost_node_run_again_elsewhere",
        "test_workers_that_cannot_make_their_estimator_say_why",
    ),
    "tests/strategies/gradient/test_steps.py": (
        "test_second_order_gradient_equals_differentiation_through_the_sgd_step",
        "test_steps_take_the_public_trajectory",
    ),
    "tests/test_api.py": ("test_a_retraining_takes_other_settings_until_it_begins",),
    "tests/test_imports.py": (
        "test_a_name_loads_what_it_needs",
        "test_a_table_is_searched_and_reported_without_the_extension",
        "test_an_import_changes_no_environment",
    ),
    "tests/training/test_data_forms.py": ("test_a_run_goes_on_with_another_form_to_the_same_bits",),
    "tests/training/test_predict.py": ("test_batches_are_no_larger_than_the_photos_allow",),
    "tests/training/test_training.py": ("test_kill_and_resume_end_with_the_same_bits",),
}
"""By file: tests of which every case takes about three seconds or more, and what a faster one shows as well."""

FIRST_CASE: Mapping[str, tuple[str, ...]] = {
    "tests/compat/test_networks.py": (
        "test_first_batch_equals_the_public_code",
        "test_first_order_search_takes_the_public_trajectory",
    ),
    "tests/dropin/test_accelerate.py": (
        "test_a_module_changed_later_runs_its_own_forward",
        "test_cells_of_foreign_networks_are_fused_and_equal",
        "test_five_steps_of_a_search_are_those_of_the_plain_network",
        "test_single_mixed_operations_are_fused_and_equal",
    ),
    "tests/dropin/test_autocast.py": (
        "test_cells_under_autocast_are_fused_and_as_near_to_float32_as_the_twin_s",
        "test_mixed_operations_under_autocast_are_fused_and_as_near_to_float32",
    ),
    "tests/dropin/test_auxiliary.py": ("test_what_becomes_of_the_image_beside_a_mixture_is_seen",),
    "tests/dropin/test_later_changes.py": (
        "test_accelerating_draws_nothing",
        "test_drop_path_drops_every_image_on_its_own",
        "test_so_it_may_in_a_copy",
        "test_what_the_forward_of_a_mixed_operation_reads_may_change",
    ),
    "tests/dropin/test_transforms.py": ("test_functions_of_torch_take_the_module_s_own_forward",),
    "tests/e2e/test_routes.py": ("test_runs_end_to_end",),
    "tests/estimators/curves/test_families.py": ("test_fit_is_as_good_as_scipy_from_many_starts",),
    "tests/estimators/test_oneshot.py": ("test_scores_are_those_of_the_loop",),
    "tests/estimators/test_rungs.py": (
        "test_a_run_trains_each_epoch_once",
        "test_a_training_that_is_cut_between_rungs_goes_on_to_the_same_bits",
        "test_stopped_run_resumes_with_the_same_bits_and_trains_nothing_twice",
    ),
    "tests/estimators/test_train.py": ("test_strategies_propose_descendants_resume_and_grow",),
    "tests/estimators/test_zero_cost.py": (
        "test_every_space_is_scored",
        "test_live_part_is_the_same_function",
    ),
    "tests/helpers/test_require.py": ("test_what_is_not_required_is_skipped",),
    "tests/kernels/test_mixed_op_cuda.py": (
        "test_an_edge_stays_in_its_budget_of_bytes_and_launches",
        "test_the_order_of_blocks_and_threads_changes_no_bit",
        "test_wide_states_take_several_blocks_of_channels",
    ),
    "tests/kernels/test_registration.py": (
        "test_opcheck_inner_ops_of_relu_conv_bn",
        "test_opcheck_relu_conv_bn",
    ),
    "tests/kernels/test_supernet.py": ("test_opcheck_inner_ops",),
    "tests/morphism/test_morphism.py": (
        "test_architectures_grow_by_several_decisions_and_again",
        "test_what_is_said_to_keep_the_outputs_does_and_nothing_else",
    ),
    "tests/nn/test_fused.py": ("test_cells_equal_the_twin_s",),
    "tests/nn/test_fused_contract.py": ("test_a_layer_replaced_before_compilation_is_compiled_after_one_call",),
    "tests/nn/test_fused_partial.py": ("test_cell_equals_its_twin",),
    "tests/properties/test_spaces.py": (
        "test_a_row_comes_back_from_its_text",
        "test_any_text_is_an_architecture_or_an_error_of_nasfast",
        "test_different_rows_have_different_texts",
        "test_mutants_and_children_are_of_the_space",
    ),
    "tests/properties/test_strategies.py": ("test_a_strategy_that_was_loaded_goes_on_as_if_it_had_not_been",),
    "tests/report/test_report.py": ("test_nothing_is_cut_off_in_a_browser",),
    "tests/search/blackbox/test_blackbox.py": (
        "test_command_runs_every_strategy_and_reports",
        "test_stopped_run_resumes_with_the_same_bits",
    ),
    "tests/search/blackbox/test_inherit.py": ("test_children_start_from_their_parents_and_train_for_fewer_epochs",),
    "tests/search/blackbox/test_joint.py": ("test_strategies_with_a_smaller_model",),
    "tests/search/blackbox/test_optuna_study.py": (
        "test_a_damaged_file_is_named_before_anything_is_computed",
        "test_an_append_that_was_cut_by_a_kill_is_made_good",
    ),
    "tests/search/blackbox/test_parallel.py": ("test_every_strategy_has_the_same_bits_in_any_order_and_after_a_stop",),
    "tests/search/blackbox/test_zero_cost.py": ("test_stopped_run_resumes_with_the_same_bits",),
    "tests/search/gradient/test_search.py": ("test_stopped_and_resumed_search_ends_with_the_same_bits",),
    "tests/search/gradient/test_space_search.py": ("test_stopped_and_resumed_search_of_cells_ends_with_the_same_bits",),
    "tests/search/oneshot/test_oneshot.py": (
        "test_killed_run_resumes_with_the_same_bits",
        "test_run_writes_what_it_found",
    ),
    "tests/search/oneshot/test_step.py": ("test_training_learns",),
    "tests/spaces/test_spaces.py": ("test_covering_rows_meet_every_operation",),
    "tests/strategies/blackbox/test_multi_fidelity.py": (
        "test_finds_more_than_full_trainings_of_the_same_cost",
        "test_only_some_come_to_the_next_rung_and_all_of_them_from_the_one_before",
        "test_stopped_run_resumes_with_the_same_bits",
    ),
    "tests/strategies/blackbox/test_strategies.py": (
        "test_constraints_are_kept_in_the_end",
        "test_finds_more_than_random_search",
        "test_same_seed_same_search_and_another_seed_another",
        "test_state_goes_through_json_and_resumes_bit_for_bit",
    ),
    "tests/supernets/test_batched_eval.py": (
        "test_bits_do_not_depend_on_threads_order_population_or_bound",
        "test_cell_spaces_agree_with_the_loop",
        "test_memory_stays_within_the_bound",
        "test_the_op_has_all_its_parts",
    ),
    "tests/supernets/test_batched_eval_cuda.py": ("test_launches_grow_with_the_depth_and_not_with_the_population",),
    "tests/supernets/test_elastic.py": ("test_batched_evaluation_agrees_with_slices",),
    "tests/supernets/test_mixture.py": ("test_one_hot_weights_are_the_child_of_the_shared_network",),
    "tests/supernets/test_paths.py": (
        "test_a_path_for_every_image",
        "test_agrees_with_the_loop",
        "test_spaces_that_wire_their_rows_differently",
    ),
    "tests/test_imports.py": (
        "test_help_and_wrong_usage_load_nothing_heavy",
        "test_settings_out_of_range_are_refused_before_torch_is_loaded",
    ),
    "tests/training/test_data_forms.py": ("test_a_run_of_a_folder_is_one_of_its_other_forms",),
    "tests/training/test_training.py": ("test_ctrl_c_saves_the_step_and_resumes_with_the_same_bits",),
}
"""By file: tests whose cases take three seconds or more together."""
