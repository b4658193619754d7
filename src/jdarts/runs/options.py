"""Parts of the configurations of all runs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, get_args

import optax
import tyro

from jdarts import optimizers
from jdarts.errors import InputError
from jdarts.plugins import PluginOption, recorded
from jdarts.report.loggers import LoggerName, check_loggers
from jdarts.runs.bounds import BELOW_ONE, EPOCHS, NOT_NEGATIVE, POSITIVE, SEED, Bounds, option
from jdarts.runs.devices import BatchStatistics, Parallel, check_wrapper
from jdarts.runs.processes import check_launch
from jdarts.runs.settings import WITHOUT_EFFECT, Folder, Recorded, Settings, Whole
from jdarts.runs.time_limit import seconds_of

#: Of float32 products and convolutions, in JAX's words.
MatmulPrecision = Literal["default", "high", "highest"]

_Loggers = tyro.conf.arg(metavar="{" + ",".join(get_args(LoggerName)) + "} ...")
_Time = tyro.conf.arg(metavar="TIME", help_behavior_hint="")
_Optional = tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class Run(Settings):
    """The identity of a run.

    Attributes:
      run_dir: folder for all results of the run; the same command resumes the run of a folder (default: a folder below runs,
        named after the settings).
      seed: seed of all randomness.
      plugin: Python file, or importable module, that registers operations or image sets of your own; its code runs first.
      time_limit: time after which the command saves its state and ends with code 75, such as 90s, 10m or 1h30m; the same command
        resumes it. It finishes the step that it is at, and takes at least one (default: none).
    """

    run_dir: Annotated[Path | None, Folder, WITHOUT_EFFECT] = None
    seed: Annotated[int, SEED] = 0
    plugin: Annotated[PluginOption, Recorded(recorded)] = ()
    time_limit: Annotated[str | None, _Time, WITHOUT_EFFECT] = None

    def check(self) -> None:
        """As the base class; also reads the time limit, and runs the plug-ins, whose operations other settings name."""
        super().check()
        if self.time_limit is not None:
            seconds_of(self.time_limit)
        recorded(self.plugin)

    def folder(self, *words: str) -> Path:
        """The run's folder: `run_dir`, or one below `runs` named after these words and the seed."""
        return self.run_dir or Path("runs") / "-".join([*words, f"seed{self.seed}"])


@dataclasses.dataclass(frozen=True)
class Loop(Settings):
    """The length of a run, and its records and checkpoints.

    Attributes:
      epochs: passes over the data that train the weights; on text the number is approximate.
      extend: give the run of the folder more epochs, whether it has finished or not. It resumes from its last checkpoint, and
        from there on its schedules are those of the new number.
      log: where the run's numbers, cells and alphas are logged beside metrics.jsonl, one or several: tensorboard (event files
        in its folder), wandb (Weights & Biases), mlflow, or none.
      log_every: steps between two records in metrics.jsonl and in those.
      checkpoint_minutes: minutes between two checkpoints within an epoch; each epoch ends with one.
      keep_checkpoints: number of checkpoints to keep on disk.
      live: write report.html, the page of the run, after every epoch, and not at the end alone; a browser that shows it
        loads it again.
    """

    epochs: Annotated[int, EPOCHS] = 50
    extend: Annotated[bool, WITHOUT_EFFECT] = False
    log: Annotated[tuple[LoggerName, ...], _Loggers, WITHOUT_EFFECT] = ("tensorboard",)
    log_every: Annotated[int, Bounds(1, 1_000_000_000), WITHOUT_EFFECT] = 10
    checkpoint_minutes: Annotated[float, POSITIVE, WITHOUT_EFFECT] = 10.0
    keep_checkpoints: Annotated[int, Bounds(2, 1_000_000), WITHOUT_EFFECT] = 3
    live: Annotated[bool, WITHOUT_EFFECT] = False

    def check(self) -> None:
        """As the base class; also checks that the loggers are there."""
        super().check()
        check_loggers(self.log)


@dataclasses.dataclass(frozen=True)
class Parallelism(Settings):
    """How the devices of a process compute and share its steps.

    Attributes:
      devices: number of devices that share each batch. The result does not depend on it, up to rounding, unless
        batch_statistics is per_device.
      parallel: how several devices share a step: pmap (jax.pmap) or shard (shard_map on a mesh). jit is for one device.
      matmul_precision: precision of float32 products and convolutions. default: the fastest of the device, which is TF32 (10
        bits of mantissa) on GPUs and bfloat16 on TPUs; high: three times as many of those; highest: float32. CPUs always
        compute in float32.
    """

    devices: Annotated[int, Bounds(1, 65_536), WITHOUT_EFFECT] = 1
    parallel: Annotated[Parallel, WITHOUT_EFFECT] = "shard"
    matmul_precision: MatmulPrecision = "default"

    def check(self) -> None:
        """As the base class; also refuses several devices with jit."""
        super().check()
        check_wrapper(self.devices, self.parallel)


@dataclasses.dataclass(frozen=True)
class Calls(Settings):
    """How many steps a call of the compiled program takes.

    Attributes:
      steps_per_call: steps that the device takes without waiting for the host, at most an epoch of them; for GPUs and TPUs where
        steps are short. Images must be on the device. The run stops, saves and shows numbers between calls alone, and steps
        that do not fill a call are single ones. The result does not depend on it, up to rounding.
    """

    steps_per_call: Annotated[int, Bounds(1, 1_000_000), WITHOUT_EFFECT] = 1


@dataclasses.dataclass(frozen=True)
class BatchNorm(Settings):
    """How activations are normalised in training.

    Attributes:
      batch_statistics: the statistics that normalise a batch on several devices. synchronised: those of the whole batch;
        per_device: each device uses those of its share, as in the reference implementation, and running statistics are
        the mean over the devices.
    """

    batch_statistics: BatchStatistics = "synchronised"


@dataclasses.dataclass(frozen=True)
class Processes(Settings):
    """The processes of a run, on one machine or several.

    Attributes:
      cluster: this process is one of several that SLURM, Kubernetes, Open MPI or a Cloud TPU has started; JAX finds the
        others. All share the run's folder; --devices is then the number of each process.
      coordinator: HOST:PORT of process 0, for processes that no such system has started.
      num_processes: number of processes.
      process_id: number of this process, from 0.
    """

    cluster: Annotated[bool, WITHOUT_EFFECT] = False
    coordinator: Annotated[str | None, _Optional, WITHOUT_EFFECT] = None
    num_processes: Annotated[int | None, Bounds(1, 65_536), Whole, WITHOUT_EFFECT] = None
    process_id: Annotated[int | None, Bounds(0, 65_535), Whole, WITHOUT_EFFECT] = None

    def check(self) -> None:
        """As the base class; also refuses an incomplete description of the processes."""
        super().check()
        check_launch(self)


@dataclasses.dataclass(frozen=True)
class AlphaOptimizer(Settings):
    """The optimiser of the alphas.

    Attributes:
      alpha_optimizer: the alphas' optimiser. sgd has no momentum (SNAS).
      alpha_learning_rate: learning rate of the alphas.
      alpha_b1: decay of Adam's first moment.
      alpha_b2: decay of Adam's second moment.
      alpha_weight_decay: L2 penalty on the alphas, added to their gradient.
    """

    alpha_optimizer: optimizers.AlphaOptimizer = "adam"
    alpha_learning_rate: Annotated[float, POSITIVE] = 3e-4
    alpha_b1: Annotated[float, BELOW_ONE] = 0.5
    alpha_b2: Annotated[float, BELOW_ONE] = 0.999
    alpha_weight_decay: Annotated[float, NOT_NEGATIVE] = 1e-3

    def check_use(self, usual: "AlphaOptimizer") -> None:
        """Checks that the optimiser makes use of the settings.

        Args:
          usual: the settings of the method.

        Raises:
          InputError: a setting of Adam for another optimiser.
        """
        if self.alpha_optimizer != "adam":
            for name in ("alpha_b1", "alpha_b2"):
                _check_unused(self, usual, name, of="adam", given=f"--alpha-optimizer {self.alpha_optimizer}")

    def optimizer(self) -> optax.GradientTransformation:
        """The optimiser."""
        return optimizers.alpha_optimizer(
            self.alpha_learning_rate,
            optimizer=self.alpha_optimizer,
            b1=self.alpha_b1,
            b2=self.alpha_b2,
            weight_decay=self.alpha_weight_decay,
        )


@dataclasses.dataclass(frozen=True)
class WeightOptimizer(Settings):
    """The optimiser of the weights.

    Attributes:
      optimizer: the weights' optimiser. The other defaults are the paper's for sgd; adamw needs a learning rate of about 0.001.
      momentum: momentum of sgd.
      nesterov: give sgd Nesterov's form of momentum (GDAS).
      b1: decay of the first moment of adamw.
      b2: decay of the second moment of adamw.
      weight_decay: penalty on the weights: L2 for sgd, decoupled for adamw.
      clip: largest global norm of the weights' gradient.
    """

    optimizer: optimizers.Optimizer = "sgd"
    momentum: Annotated[float, BELOW_ONE] = 0.9
    nesterov: bool = False
    b1: Annotated[float, BELOW_ONE] = 0.9
    b2: Annotated[float, BELOW_ONE] = 0.999
    weight_decay: Annotated[float, NOT_NEGATIVE] = 3e-4
    clip: Annotated[float, POSITIVE] = 5.0

    def check_use(self, usual: "WeightOptimizer", learning_rate: float) -> None:
        """Checks that the optimiser makes use of the settings.

        Args:
          usual: the defaults of this kind of run and of the method.
          learning_rate: the largest of the run.

        Raises:
          InputError: a setting of another optimiser, or a learning rate that is one of another.
        """
        chosen = optimizers.OPTIMIZERS[self.optimizer]
        for name, other in optimizers.OPTIMIZERS.items():
            for setting in set(other.settings) - set(chosen.settings):
                _check_unused(self, usual, setting, of=name, given=f"--optimizer {self.optimizer}")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise InputError("--nesterov is a form of momentum, and --momentum is 0; give a --momentum such as 0.9")
        if learning_rate > chosen.most:
            raise InputError(
                f"--learning-rate is {learning_rate}; give {self.optimizer} {chosen.most:g} or less, such as 0.001: it moves "
                "every weight by about so much in a step"
            )


def _check_unused(settings: Settings, usual: Settings, name: str, *, of: str, given: str) -> None:
    """Refuses a setting of another optimiser that is not the usual one.

    Args:
      settings: those of the run.
      usual: those that nobody has changed.
      name: of the setting.
      of: the optimiser that reads it.
      given: the option that chooses the optimiser.
    """
    if (value := getattr(settings, name)) != getattr(usual, name):
        raise InputError(f"{option(name)} is {value}, a setting of {of}; leave it out with {given}")
