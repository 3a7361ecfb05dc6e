"""The pool answers every item, in order and in time, whatever becomes of its workers."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import misbehaving
import pytest

from igpo_lightning.rewards import GradingPool, Verdict
from igpo_lightning.rewards.grading import MAX_ANSWER_LENGTH

RIGHT, WRONG = Verdict(True), Verdict(False, "wrong")


@pytest.fixture(scope="module")
def pool() -> Iterator[GradingPool]:
    with GradingPool(workers=2, timeout=3.0) as made:
        yield made


@pytest.fixture(scope="module")
def fragile() -> Iterator[GradingPool]:
    """A pool whose grader obeys the answer; see misbehaving.py."""
    with GradingPool(workers=2, timeout=1.0, grader=misbehaving.grade) as made:
        yield made


def test_verdicts_and_their_reasons(pool: GradingPool) -> None:
    items = [
        ("18", "so 9 * 2 = 18\n#### 18"),
        ("18", "#### 17"),
        (r"\frac{1}{2}", r"\boxed{\frac{2}{4}}"),
        ("x^2 + 2x + 1", r"\boxed{(x+1)^2}"),
        ("x^2 + 2x + 1", r"\boxed{(x+2)^2}"),
        ("18", "I do not know."),
        ("18", ""),
        ("Evelyn", "Evelyn"),
        ("18", r"\boxed{" + "1" * (MAX_ANSWER_LENGTH + 1) + "}"),
    ]
    reasons = [None, "wrong", None, None, "wrong", "no_answer", "no_answer", None, "too_long"]
    assert pool.grade(items) == [Verdict(r is None, r) for r in reasons]


@pytest.mark.parametrize(
    "text",
    ["216/24=", "the 216/24= and", "3 * 3", "so 3 * 3 it", r"$\frac{216}{24}$", "10 - 1", "9 ="],
)
def test_a_sum_that_nobody_worked_out_is_no_answer(pool: GradingPool, text: str) -> None:
    long = "\n".join(["We do not know what this may be at all."] * 15) + "\n"
    assert [v.correct for v in pool.grade([("9", text), ("9", long + text)])] == [False, False]


def test_nothing_to_grade(pool: GradingPool) -> None:
    assert pool.grade([]) == []


def test_two_forms_of_one_value_in_two_boxes(pool: GradingPool) -> None:
    assert pool.grade([("x+11", r"\boxed{x+11} or \boxed{11+x}")]) == [RIGHT]
    assert pool.grade([("x+11", r"\boxed{x+11} or \boxed{12+x}")]) == [WRONG]


def box(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(gold, rf"\boxed{{{answer}}}") for gold, answer in pairs]


def test_the_order_is_that_of_the_items(fragile: GradingPool) -> None:
    items = box([(f"slow {i}", f"slow {i if i % 2 else -i - 1}") for i in range(8)])
    assert fragile.grade(items) == [RIGHT if i % 2 else WRONG for i in range(8)]


@pytest.mark.parametrize("command", ["die", "exit", "raise", "fill"])
def test_a_worker_that_dies_costs_its_item_only(fragile: GradingPool, command: str) -> None:
    items = box(
        [("ok", "ok"), ("x", f"{command} now"), ("fine", "fine"), ("x", f"{command} again")]
    )
    assert [v.reason for v in fragile.grade(items)] == [None, "crash", None, "crash"]


@pytest.mark.parametrize("command", ["hang", "sleep"])
def test_a_worker_that_hangs_is_ended(fragile: GradingPool, command: str) -> None:
    start = time.monotonic()
    verdicts = fragile.grade(box([("ok", "ok then"), ("x", f"{command} 1"), ("yes", "yes")]))
    assert [v.reason for v in verdicts] == ["wrong", "timeout", None]
    assert time.monotonic() - start < 30  # 1 s for the item; the rest is a new worker's start


def test_what_a_worker_prints_does_no_harm(
    fragile: GradingPool, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fragile.grade(box([("print", "print")])) == [RIGHT]
    assert capfd.readouterr().out == ""


def test_a_repeated_pair_is_graded_once() -> None:
    with GradingPool(workers=1, timeout=5.0, grader=misbehaving.grade) as pool:
        pool.grade(box([("x", "ready")]))
        start = time.monotonic()
        assert pool.grade(box([("slow 1", "slow 1")] * 50)) == [RIGHT] * 50
        assert pool.grade(box([("slow 1", "slow 1")])) == [RIGHT]
        assert time.monotonic() - start < 50 * 0.2 / 2


def test_submit_returns_before_the_work_is_done(fragile: GradingPool) -> None:
    fragile.grade(box([("x", "ready")]))
    start = time.monotonic()
    first = fragile.submit(box([("slow a", "slow a"), ("slow b", "slow c")]))
    second = fragile.submit(box([("slow d", "slow d")]))
    assert time.monotonic() - start < 0.15
    assert first.result() == [RIGHT, WRONG]
    assert second.result() == [RIGHT]


def test_a_submitted_error_comes_with_the_result(fragile: GradingPool) -> None:
    with pytest.raises((TypeError, AttributeError)):
        fragile.submit([("gold", 5)]).result()  # type: ignore[list-item]
    assert fragile.grade(box([("ok", "ok")])) == [RIGHT]


def test_calls_from_several_threads(fragile: GradingPool) -> None:
    found: dict[int, list[Verdict]] = {}

    def ask(i: int) -> None:
        found[i] = fragile.grade(box([(f"t{i} {j}", f"t{i} {j}") for j in range(5)]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {i: [RIGHT] * 5 for i in range(4)}


def test_other_strategies() -> None:
    with GradingPool(workers=1, strategies=("tag",)) as pool:
        items = [("5", "<answer>5</answer>"), ("5", "x" * 500 + r"\boxed{5}"), ("5", "so 5")]
        assert [v.reason for v in pool.grade(items)] == [None, "no_answer", "no_answer"]


def test_a_closed_pool_says_so() -> None:
    with GradingPool(workers=1) as pool:
        pass
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.grade([("1", "1")])
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit([("1", "1")])


@pytest.mark.parametrize(
    "settings", [{"workers": 0}, {"timeout": 0.0}, {"strategies": ()}, {"strategies": ("boxes",)}]
)
def test_wrong_settings(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        GradingPool(**settings)  # type: ignore[arg-type]


def children(parent: int) -> set[int]:
    """Ids of the processes that a process started and that live."""
    found = set()
    for task in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread is gone
            found |= {int(word) for word in (task / "children").read_text().split()}
    return {pid for pid in found if not gone(pid)}


def gone(pid: int) -> bool:
    try:
        return "(zombie)" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def wait_until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_worker_killed_once_costs_no_verdict(tmp_path: Path) -> None:
    answer = f"die-once {tmp_path / 'log'}"
    with GradingPool(workers=1, grader=misbehaving.grade) as pool:
        assert pool.grade(box([(answer, answer)])) == [RIGHT]
        assert pool.retried == 1


@pytest.mark.parametrize(
    ("command", "reason", "each_time"),
    [
        ("die", "crash", 2),
        ("sleep", "timeout", 2),  # waited: the machine may be to blame
        ("overrun", "timeout", 1),  # computed: the text is to blame, and the verdict is kept
    ],
)
def test_verdicts_that_the_machine_may_cause_are_not_kept(
    tmp_path: Path, command: str, reason: str, each_time: int
) -> None:
    item = ("x", f"{command} {tmp_path / 'log'}")
    with GradingPool(workers=1, timeout=0.2, grader=misbehaving.grade) as pool:
        for _ in range(2):
            assert pool.grade(box([item])) == [Verdict(False, reason)]
        times = (tmp_path / "log").read_text().count("graded")
        assert times == (1 if each_time == 1 else 2 * each_time)
        assert pool.retried == (0 if each_time == 1 else 2)


def test_a_worker_that_was_prepared_does_the_work() -> None:
    before = children(os.getpid())
    with GradingPool(workers=1, grader=misbehaving.grade) as pool:
        pool.prepare()
        pool.prepare()
        assert pool.submit([]).result() == []  # the thread has come to it: the worker is there
        started = children(os.getpid()) - before
        assert len(started) == 1
        assert pool.grade(box([("a", "a")])) == [RIGHT]
        assert children(os.getpid()) - before == started
    with pytest.raises(RuntimeError, match="closed"):
        pool.prepare()


def test_an_idle_worker_that_was_killed_gets_no_work() -> None:
    before = children(os.getpid())
    with GradingPool(workers=1, grader=misbehaving.grade) as pool:
        assert pool.grade(box([("a", "a")])) == [RIGHT]
        (worker,) = children(os.getpid()) - before
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: gone(worker), "the worker does not die")
        assert pool.grade(box([("b", "b")])) == [RIGHT]
        assert pool.retried == 0


def test_a_worker_killed_while_it_starts_does_not_end_the_run() -> None:
    before = children(os.getpid())
    with GradingPool(workers=1, grader=misbehaving.grade) as pool:
        pending = pool.submit(box([("a", "a")]))
        wait_until(lambda: children(os.getpid()) - before, "no worker starts")
        for pid in children(os.getpid()) - before:
            os.kill(pid, signal.SIGKILL)
        assert pending.result(timeout=60) == [RIGHT]


def test_workers_that_cannot_start_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost_grader.py").write_text("def grade(gold, answer):\n    return True\n")
    monkeypatch.syspath_prepend(tmp_path)
    grader = importlib.import_module("lost_grader").grade
    (tmp_path / "lost_grader.py").unlink()  # workers import it, and cannot
    with (
        GradingPool(workers=1, grader=grader) as pool,
        pytest.raises(RuntimeError, match="did not start"),
    ):
        pool.grade(box([("a", "a")]))


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_end_with_a_parent_that_is_killed(stopped: bool) -> None:
    script = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import misbehaving\n"
        "from igpo_lightning.rewards import GradingPool\n"
        "pool = GradingPool(workers=1, grader=misbehaving.grade)\n"
        "pool.grade([('x+1', r'\\boxed{1+2x}')])\n"
        "print('graded', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "graded\n"
        (worker,) = children(parent.pid)
        if stopped:
            os.kill(worker, signal.SIGSTOP)
        parent.kill()
        wait_until(lambda: gone(worker), "the worker outlives its pool")


def _seconds(pids: set[int]) -> float:
    """Processor time of processes so far."""
    ticks = 0
    for pid in pids:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.mark.shared
def test_ordinary_answers_are_graded_fast(pool: GradingPool, shared_data: Path) -> None:
    """At least 500 items a second on two cores, over GSM8K's answers as models write them.

    Computing time of the trainer and of the workers together counts, on one core after the other,
    since the machine may be shared: twice as hard as the promise. No pair comes twice.
    """
    rows = [json.loads(line) for line in (shared_data / "gsm8k.test.jsonl").open()]
    forms = (
        "#### {}",
        "The answer is {}.",
        "\\boxed{{{}}}",
        "So {} dollars.",
        "\\boxed{{\\${}.00}}",
    )
    items, right = [], 0
    for i, row in enumerate(rows):
        text, form = row["solution"].partition("####")[0], forms[i % len(forms)]
        items.append((row["answer"], text + form.format(row["answer"])))
        # Two thirds are wrong, as an untrained model's are.
        items.append((row["answer"], text + form.format(i + 300_001)))
        items.append((row["answer"], f"{text}\\boxed{{{i}/7}} and more"))
        right += 1
    pool.grade([("x+1", r"\boxed{1+2x}"), ("x+1", r"\boxed{1+3x}")])  # the workers have started
    workers = children(os.getpid())  # those of another pool do nothing meanwhile
    start = time.process_time() + _seconds(workers)
    verdicts = pool.grade(items)
    seconds = time.process_time() + _seconds(workers) - start
    assert right <= sum(v.correct for v in verdicts) <= right + len(rows) // 50
    assert len(items) / seconds >= 500


def test_closing_does_not_wait_for_what_is_being_graded() -> None:
    pool = GradingPool(workers=1, timeout=30.0, grader=misbehaving.grade)
    pool.grade(box([("a", "ready")]))
    pending = [pool.submit(box([("a", "sleep 1"), ("a", "sleep 2")])) for _ in range(2)]
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 10.0  # the items alone would sleep for 60 seconds each
    assert pending[1].cancelled() or pending[1].exception() is not None
    assert pending[0].cancelled() or pending[0].exception() is not None
