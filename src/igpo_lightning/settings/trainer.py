"""The processes of a run: how many, on what, and how they share the model."""

from dataclasses import dataclass

from igpo_lightning.settings.rules import above_zero, at_least, choice, require, within

ACCELERATORS = ("cpu", "gpu")
STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")


@dataclass(frozen=True)
class TrainerConfig:
    """Lightning's Trainer."""

    accelerator: str = "cpu"  # cpu | gpu
    devices: int = 1  # processes a node
    num_nodes: int = 1  # nodes
    strategy: str = "auto"  # auto | ddp | fsdp (FSDP2 through ModelParallelStrategy)
    precision: str = "32-true"  # Lightning's names: 32-true | bf16-mixed | bf16-true
    threads: int | None = None  # torch threads of a process, 1 to 1024; null: torch's choice
    keep_last: int = 2  # newest checkpoints that are kept, beside that of the best evaluation
    max_skipped: int = 10  # updates in a row with NaN or inf after which a run stops
    replicas: int = 1  # fsdp: copies of the model that processes share (hybrid: one a node)
    cpu_offload: bool = False  # fsdp: weights, gradients, optimizer states in the CPU's memory
    gather_rollouts: bool = False  # fsdp: hold all weights while sampling (see the plan)
    timeout: float = 1800.0  # seconds that ranks wait for each other, at most a week
    profile: bool = False  # write a timeline of the second step: profile/ in the run folder
    memory_gb: float | None = None  # GiB of a GPU (cpu: of a node) for the plan; null: what is here
    tflops: float | None = None  # TFLOP/s a process reaches, for the plan's hours; doctor measures

    def __post_init__(self) -> None:
        """Refuse unknown names, values out of range, and what the strategy does not have."""
        choice(
            self,
            "trainer",
            accelerator=ACCELERATORS,
            strategy=STRATEGIES,
            precision=PRECISIONS,
        )
        at_least(self, "trainer", 1, "devices", "num_nodes", "keep_last", "max_skipped")
        within(self, "trainer", 1, 1024, "threads")
        within(self, "trainer", 1, 604_800, "timeout")
        above_zero(self, "trainer", "memory_gb", "tflops")
        world = self.world_size
        require(
            self.strategy != "auto" or world == 1,
            "trainer.devices",
            self.devices,
            f"{world} processes need trainer.strategy=ddp or fsdp",
        )
        require(
            self.replicas >= 1 and world % self.replicas == 0,
            "trainer.replicas",
            self.replicas,
            f"must divide the {world} processes (trainer.devices * trainer.num_nodes)",
        )
        for name, neutral in (("replicas", 1), ("cpu_offload", False), ("gather_rollouts", False)):
            value = getattr(self, name)
            require(
                self.strategy == "fsdp" or value == neutral,
                f"trainer.{name}",
                value,
                f"is for trainer.strategy=fsdp; leave it at {neutral} with {self.strategy}",
            )

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.devices * self.num_nodes
