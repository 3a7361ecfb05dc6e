"""The attacks that were tried, and what holds: the tables of docs/faults.md are made from here.

`python -m tests.attacks.table` writes the page again. Attacks on model folders, command lines and
run folders stand beside their tests (folders.py, command_lines.py) and are counted in here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.attacks.command_lines import DATA, FOLDERS, LINES, Command
from tests.attacks.folders import FOLDERS as MODELS
from tests.docs.commands import ROOT

PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->"


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        attack: What is done.
        outcome: What holds then.
        test: Its file under tests/ and its name, "runs/test_lock.py::test_...".
    """

    attack: str
    outcome: str
    test: str


SAME = "same metrics, samples and weights as a run to which nothing happened"
REFUSED = "refused in one line that names it"
KILL, FAULTS = "integration/test_survival_kill.py", "integration/test_survival_faults.py"
RUN, EVALUATION = "integration/test_run_folders.py", "integration/test_survival_evaluation.py"
STEPS = "integration/test_survival_steps.py"
WHOLE = "distributed/test_whole_runs.py"
POOL, TEXT = "rewards/test_worker_pool.py", "rewards/test_hostile_text.py"
ENDPOINT = "rewriting/test_rewriting_endpoint.py"
SECURITY = "test_security.py"
ANY = "attacks/test_any_model_file.py"

AREAS: dict[str, list[Attack]] = {
    "A run that is killed or told to go": [
        Attack(
            "SIGKILL at 20 random places of an RL run: rollout, hints, update, metrics, "
            "evaluation, every stage of writing a checkpoint",
            SAME,
            f"{KILL}::test_twenty_kills_at_random_places_change_nothing",
        ),
        Attack(
            "the same in SFT, 6 times", SAME, f"{KILL}::test_kills_change_nothing_in_fine_tuning"
        ),
        Attack(
            "SIGKILL and SIGTERM in every phase of `rl`, `sft`, `sft_then_rl`, `eval`, `rewrite` "
            "and `export`",
            "every file of the run folder as without",
            "attacks/test_kill_matrix.py::test_every_file_is_as_without_the_kill",
        ),
        Attack(
            "SIGKILL in an evaluation in training, and between it and its checkpoint",
            "evaluated again, logged once",
            f"{KILL}::test_an_evaluation_that_a_kill_cut_off_is_made_again",
        ),
        Attack(
            "SIGTERM, SIGUSR1 within a short step",
            "saved after the step, exit status 143 or 138, the printed command resumes",
            f"{FAULTS}::test_a_signal_saves_after_the_step_and_the_same_command_goes_on",
        ),
        Attack(
            "SIGTERM, Ctrl-C, SIGUSR1 within the rollout or an update of a long step",
            f"left within seconds, made again by the resumed run; {SAME}",
            f"{STEPS}::test_a_long_step_is_left_and_made_again",
        ),
        Attack(
            "SIGTERM to one of two ranks (DDP, FSDP) within the rollout or an update of a long "
            "step",
            f"both leave it and save together; {SAME}",
            "distributed/test_leaving_ranks.py::test_both_ranks_leave_where_one_is_told",
        ),
        Attack(
            "SIGTERM within an evaluation in training, also the one after the last step",
            "saved at once; the resumed run begins with that evaluation, logged once",
            f"{EVALUATION}::test_a_signal_within_an_evaluation_is_obeyed_at_once",
        ),
        Attack(
            "a signal in the step before an evaluation; another, and SIGKILL, when it is resumed",
            f"the evaluation is not waited for; {SAME}",
            f"{EVALUATION}::test_a_signal_in_the_step_before_an_evaluation_does_not_wait_for_it",
        ),
        Attack(
            "SIGTERM between an evaluation and its checkpoint",
            "the evaluation is kept, logged once",
            f"{EVALUATION}::test_a_signal_between_an_evaluation_and_its_checkpoint_doubles_nothing",
        ),
        Attack(
            "SIGTERM within the validation of SFT",
            "saved at once; each validation logged once",
            f"{EVALUATION}::test_a_signal_within_the_validation_of_fine_tuning",
        ),
        Attack(
            "SIGTERM at the start, in the evaluation before training, in the export",
            "ends at once, with the command that resumes",
            f"{RUN}::test_a_signal_in_any_phase_ends_the_run_with_the_command_that_resumes",
        ),
        Attack(
            "Ctrl-C and SIGTERM while Python imports",
            "one line with the command, exit status 130 or 143",
            "attacks/test_start.py::test_a_signal_while_python_imports_is_one_line",
        ),
        Attack(
            "SIGUSR1 to a SLURM job outside of training",
            "asks `scontrol` to put the job back into the queue",
            "attacks/test_start.py::test_a_batch_job_that_leaves_outside_of_training_goes_back",
        ),
        Attack(
            "SIGUSR1 or SIGTERM to the job of a real SLURM (skipped where no cluster answers)",
            "saved after the step, put back, goes on two minutes later, same numbers",
            "integration/test_slurm_cluster.py::"
            "test_a_job_that_is_told_to_go_saves_goes_back_and_ends_with_the_same_numbers",
        ),
        Attack(
            "a sweep through submitit's own processes",
            "each run ends as any other",
            "integration/test_slurm.py::test_submitit_runs_a_job_of_a_sweep",
        ),
    ],
    "Metrics": [
        Attack(
            "`sft_then_rl`, with evaluations on the last steps of both parts",
            "each accuracy once in `metrics.csv` and once in TensorBoard",
            "attacks/test_logged_once.py::test_sft_then_rl_logs_each_accuracy_once",
        ),
        Attack(
            "a resume from a checkpoint that an evaluation preceded",
            "TensorBoard keeps the evaluation",
            "runs/test_tensorboard.py::"
            "test_a_resumed_run_keeps_the_evaluation_before_its_checkpoint",
        ),
    ],
    "A damaged or foreign run folder": [
        Attack(
            "a bit of a checkpoint flips; its end is torn off",
            "reported, the one before is used",
            f"{FAULTS}::test_a_damaged_checkpoint_is_reported_and_the_one_before_used",
        ),
        Attack(
            "any byte of a small checkpoint flips, the zip directory and the sum included",
            "reported as damage",
            "runs/test_checkpoint_damage.py::test_a_flip_of_any_byte_is_found",
        ),
        Attack(
            "any bytes of a checkpoint changed, cut off or added",
            "what is sound holds what was written; the rest is refused",
            "runs/test_checkpoint_damage.py::test_what_is_sound_holds_what_was_written",
        ),
        Attack(
            "a bit of a shard flips",
            "reported, the folder before is used, on two ranks",
            f"{WHOLE}::test_damaged_shards_are_found_and_the_folder_before_used",
        ),
        Attack(
            "no sound checkpoint is left",
            "an error; nothing is begun anew silently",
            f"{FAULTS}::test_without_any_sound_checkpoint_nothing_is_begun_again_silently",
        ),
        Attack(
            "a second process in a run folder",
            REFUSED,
            f"{RUN}::test_a_second_process_is_refused_in_one_line",
        ),
        Attack(
            "the holder of a folder is killed",
            "the folder is free at once",
            "runs/test_lock.py::test_the_folder_is_free_after_a_kill",
        ),
        Attack(
            "a record of a holder on another machine",
            "respected while it counts, then taken over",
            "runs/test_lock.py::test_a_record_of_another_machine_that_counts_on_is_respected",
        ),
        Attack(
            "another stage, or other settings, in a run's folder",
            "refused in one line; no file is changed",
            f"{RUN}::test_a_refused_start_changes_no_file",
        ),
        Attack(
            "settings changed before a resume",
            "error with `key: old -> new`",
            f"{FAULTS}::test_changed_settings_are_an_error_that_shows_them",
        ),
        Attack(
            "U+2028, U+2029, U+0085 in texts, a record torn within a character",
            SAME,
            f"{RUN}::test_line_separators_in_texts_do_not_stop_a_resumed_run",
        ),
        Attack(
            "records of any Unicode text, lone surrogates included; a file cut off at any byte",
            "read back as written; the whole lines stay",
            "runs/test_json_lines.py::test_a_file_cut_off_anywhere_keeps_its_whole_lines",
        ),
        Attack(
            "a checkpoint that would run code, as one file",
            "refused, nothing is run",
            f"{FAULTS}::test_a_checkpoint_that_would_run_code_is_refused",
        ),
        Attack(
            "a folder of shards whose table of contents, or whose settings, call a function",
            "refused, nothing is run",
            f"{SECURITY}::test_a_table_of_contents_that_calls_a_function_is_refused",
        ),
        Attack(
            "keys in the environment; a run that fails",
            "in no file and no log; a setting that holds one is refused",
            f"{FAULTS}::test_what_the_environment_keeps_secret_stands_in_no_file_and_no_log",
        ),
    ],
    "A disk that is full, gone or closed": [
        Attack(
            "the kernel refuses to let a file grow, within a checkpoint",
            "error without traceback; earlier checkpoints untouched; the same command goes on",
            f"{FAULTS}::"
            "test_a_file_that_cannot_grow_ends_the_run_and_leaves_the_last_good_checkpoint",
        ),
        Attack(
            "the disk is full in TensorBoard's own thread",
            "one line, no traceback of the thread",
            "attacks/test_disk.py::test_a_disk_that_is_full_in_the_thread_of_tensorboard",
        ),
        Attack(
            "the run folder is removed within RL, SFT, an evaluation, a rewrite",
            "one line that names it",
            "attacks/test_disk.py::test_a_run_folder_that_vanishes_in_any_stage",
        ),
        Attack(
            "the log cannot be opened",
            REFUSED,
            f"{RUN}::test_a_log_that_cannot_be_opened_is_one_line",
        ),
        Attack(
            "the run folder cannot be written",
            REFUSED,
            f"{FAULTS}::test_a_run_folder_that_cannot_be_written_is_a_clear_error",
        ),
        Attack(
            "the disk is full, or the process is killed, within an export",
            "the folder that stood there before is whole",
            "runs/test_new_folder.py::test_a_full_or_closed_disk_leaves_the_old_folder",
        ),
        Attack(
            "the data file has vanished when the run is started again",
            "error naming `data.path`; with the file back it goes on",
            f"{FAULTS}::test_a_data_file_that_has_vanished_is_named_and_nothing_is_lost",
        ),
    ],
    "Numbers that are none, and memory": [
        Attack(
            "NaN in one update",
            "left out on all ranks, counted as `policy/skipped`",
            f"{FAULTS}::test_one_update_with_nan_is_left_out_and_counted",
        ),
        Attack(
            "NaN in every update",
            "stops after `trainer.max_skipped`, prompts in `nonfinite_prompts.txt`",
            f"{FAULTS}::test_updates_with_nan_are_skipped_counted_and_end_the_run",
        ),
        Attack(
            "a reward or an objective that gives NaN or inf",
            "stops after the first step without any update; names function, problem and sample",
            "rl/test_faults.py::test_a_reward_that_is_not_finite_is_named_with_its_first_sample",
        ),
        Attack(
            "NaN or inf in weights that are to be exported",
            "not exported, exit status 1",
            "stages/test_export_stage.py::test_weights_that_are_not_finite_are_not_exported",
        ),
        Attack(
            "nan, inf, -inf and -1 in every key that holds a number",
            "refused with key and value, unless the key says that it may be negative",
            "settings/test_finite.py::test_a_number_that_no_run_can_use_is_refused",
        ),
        Attack(
            "out of memory in a rollout (raised in its place on the CPU)",
            "the pass is tried again with half of its rows, same result",
            f"{FAULTS}::test_a_rollout_without_memory_goes_on_in_halves",
        ),
        Attack(
            "out of memory in a rollout of one of two FSDP ranks (raised in its place on the CPU)",
            "that rank goes on with half of the pass's rows, same result",
            f"{WHOLE}::test_one_of_two_ranks_without_memory_goes_on_in_halves",
        ),
        Attack(
            "150 steps",
            "memory stays flat",
            "attacks/test_memory.py::test_150_steps_take_no_more_memory_than_50",
        ),
    ],
    "Ranks": [
        Attack(
            "two ranks killed, one goes on (DDP, FSDP)",
            "same numbers as one process, to rounding",
            f"{WHOLE}::test_a_run_killed_on_two_ranks_goes_on_on_one",
        ),
        Attack(
            "one rank is killed: of two under DDP or FSDP, of four under DDP",
            "the others end some 10 s later and name the rank that is lost",
            f"{WHOLE}::test_a_lost_rank_does_not_leave_the_others_waiting",
        ),
        Attack(
            "one rank of a run that Lightning started itself (`trainer=ddp` without torchrun) is "
            "killed",
            "within 5 s the launcher names the lost process and kills the others, the first "
            "included (exit status 137); the same command resumes",
            "runs/test_lost_children.py::test_the_observer_names_the_lost_child_and_the_way_on",
        ),
        Attack(
            "all groups of one FSDP rank all-wrong, none of the other's",
            "both sample them again, and make the same passes",
            f"{WHOLE}::test_ranks_with_and_without_all_wrong_groups_stay_in_step",
        ),
        Attack(
            "processes started by torchrun or srun without a common folder",
            "error that names the fix",
            "checks/test_launch.py::"
            "test_processes_started_from_outside_need_a_folder_without_a_time_in_it",
        ),
    ],
    "Graders": [
        Attack(
            "a grading worker is killed once",
            "graded again by a fresh one; no verdict changes",
            f"{POOL}::test_a_worker_killed_once_costs_no_verdict",
        ),
        Attack(
            "an idle worker is killed",
            "it gets no work",
            f"{POOL}::test_an_idle_worker_that_was_killed_gets_no_work",
        ),
        Attack(
            "a worker is killed while it starts",
            "another one starts",
            f"{POOL}::test_a_worker_killed_while_it_starts_does_not_end_the_run",
        ),
        Attack(
            "the trainer is killed while its workers are stopped",
            "they die with it",
            f"{POOL}::test_workers_end_with_a_parent_that_is_killed",
        ),
        Attack(
            "answers that explode when they are computed",
            "wrong, in bounded time",
            f"{TEXT}::test_hostile_answers_are_graded_wrong_in_bounded_time",
        ),
        Attack(
            "LaTeX that reads files, defines macros, nests 10^4 deep; digits of other scripts",
            "wrong, in bounded time; no other answer changes",
            "attacks/test_answers.py::test_no_hostile_answer_is_right",
        ),
        Attack(
            "texts of 200,000 repeated marks",
            "searched in linear time",
            f"{TEXT}::test_finding_the_answer_is_fast_in_any_text",
        ),
    ],
    "The rewriting endpoint": [
        Attack(
            "a page, torn JSON, an array, no message, a surrogate, 5 MB in place of a completion",
            "the row fails with its reason, the run goes on",
            f"{ENDPOINT}::test_a_reply_that_is_no_completion_fails_its_row_alone",
        ),
        Attack(
            "a body that drips for ever",
            "ends after `rewriter.timeout`",
            f"{ENDPOINT}::test_bytes_that_drip_do_not_stretch_the_time_limit",
        ),
        Attack(
            "headers that drip, a status that is none, a reset, a bomb in gzip, redirects in a "
            "ring, endless headers",
            "the row fails with its reason, in time",
            "attacks/test_endpoint.py::test_a_hostile_server_fails_its_row_alone",
        ),
        Attack(
            "a key that the server repeats",
            "not shown",
            f"{ENDPOINT}::test_a_key_that_the_server_repeats_is_not_shown",
        ),
    ],
    "Terminals": [
        Attack(
            "control and escape sequences in prompts, completions, ids and names",
            "shown, not obeyed",
            "reporting/test_visible.py::test_nothing_a_terminal_obeys_is_left",
        ),
    ],
}


def _case(case: Command, test: str) -> Attack:
    told = {0: "passed over", 1: "one line, exit status 1", 2: "one line, exit status 2"}
    return Attack(case.attack, told[case.status], f"attacks/test_hostile_commands.py::{test}")


def areas() -> dict[str, list[Attack]]:
    """All attacks by area, those that stand beside their tests included."""
    line = "test_a_hostile_command_line_ends_in_one_line"
    run = "test_a_hostile_run_folder_ends_in_one_line_or_is_passed_over"
    model = "attacks/test_model_folders.py::test_a_hostile_folder_is_refused_in_one_line"
    return AREAS | {
        "Model folders": [
            Attack(
                "any values in place of any three entries of config.json, for every family",
                "a model, or one line",
                f"{ANY}::test_any_entries_of_config_json_give_a_model_or_one_line",
            ),
            Attack(
                "any bytes in a header of weights",
                "entries within the file, or one line",
                f"{ANY}::test_any_bytes_of_a_header_give_entries_within_the_file_or_one_line",
            ),
            *(Attack(case.attack, f"refused: `{case.says}`", model) for case in MODELS),
        ],
        "Command lines": [_case(case, line) for case in LINES],
        "Data files": [_case(case, line) for case in DATA],
        "Files of a finished run, before it is started again": [_case(c, run) for c in FOLDERS],
    }


def _rows(attacks: list[Attack]) -> Iterator[str]:
    yield "| attack | what holds | test |"
    yield "|---|---|---|"
    for attack in attacks:
        name = attack.test.rpartition("::")[2]
        cells = (attack.attack, attack.outcome, f"`{name}`")
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def tables() -> str:
    """What stands in the page between its marks."""
    parts = [f"{sum(map(len, areas().values()))} attacks, each with a test:\n"]
    for area, attacks in areas().items():
        parts += [f"### {area}\n", *_rows(attacks), ""]
    return BEGIN + "\n".join(parts) + END


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(BEGIN)] + tables() + text[text.index(END) + len(END) :])
