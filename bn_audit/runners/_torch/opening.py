"""Makes a session of a module: on its device, in its element type, with the settings of the job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bn_audit.errors import RunError, UnsupportedRunError
from bn_audit.runners._torch.arrays import dtype_named
from bn_audit.runners._torch.calling import Parameters, models_errors, parameters_of
from bn_audit.runners._torch.copying import Original
from bn_audit.runners._torch.deduction import Trials, candidates
from bn_audit.runners._torch.exported import program_candidates, program_inputs
from bn_audit.runners._torch.layers import floating_type, settable_paths, state_names
from bn_audit.runners._torch.scripted import has_mode, schema_parameters, scripted_candidates
from bn_audit.runners._torch.session import Loaded, TorchSession
from bn_audit.runners._torch.surroundings import configured, undisturbed
from bn_audit.subject.run import Job

if TYPE_CHECKING:
    import torch


def require_trust(job: Job) -> None:
    """Refuse to load a file that can run code.

    Raises:
        RunError: the job does not say that the file is trusted.
    """
    if not job.trust:
        raise RunError(f"{job.source}: loading it runs code in the file: pass --trust if you know where it comes from")


def device_of(job: Job) -> torch.device:
    """Return the device that the job names.

    Raises:
        RunError: there is none of that name here.
    """
    import torch

    with models_errors(f"device {job.device!r}: "):
        device = torch.device(job.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RunError(f"device {job.device!r}: torch sees no GPU here: run on the cpu, or install torch with CUDA")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RunError(f"device {job.device!r}: there are {torch.cuda.device_count()} GPUs: count from cuda:0")
    return device


def placed(module: torch.nn.Module, job: Job) -> torch.nn.Module:
    """Return the module on the job's device and in its element type.

    Raises:
        RunError: it cannot be moved or converted.
    """
    if any(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):
        raise RunError(f"{job.source}: its tensors are on the meta device and have no values: load the weights first")
    with undisturbed(), models_errors(f"moving the model to {job.device}: "):
        module = module.to(device_of(job))
    if job.dtype is not None:
        with undisturbed(), models_errors(f"converting the model to {job.dtype}: "):
            module = module.to(dtype_named(job.dtype))
    return module


@contextlib.contextmanager
def opened_module(
    module: torch.nn.Module, job: Job, *, runner: str, remarks: tuple[str, ...]
) -> Iterator[TorchSession]:
    """Give the session of a module that belongs to this process alone."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedRunError(
            f"{job.source}: a TorchScript module: write it with torch.jit.save and name that file"
        )
    device = device_of(job)
    with configured(threads=job.threads, device=device):
        module = placed(module, job)
        parameters = forward_parameters(module)
        session = TorchSession(
            Loaded(
                runner=runner,
                module=module,
                device=device,
                parameters=parameters,
                candidates=lambda original: candidates(
                    Trials(original=original, parameters=parameters, dtype=floating_type(module), device=device)
                ),
                remarks=remarks,
                norm_paths=settable_paths(module),
                state_names=state_names(module),
            )
        )
        yield session


def forward_parameters(module: torch.nn.Module) -> Parameters:
    """Return the parameters of the module's forward pass, looking through wrappers that pass everything on."""
    inner = module
    for _ in range(8):
        wrapped = next(
            (inner._modules[name] for name in ("_orig_mod", "module") if inner._modules.get(name) is not None), None
        )
        parameters = parameters_of(inner.forward)
        if parameters.required or wrapped is None or not parameters.takes_more:
            return parameters
        inner = wrapped
    return parameters_of(inner.forward)


def private(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a live module that shares nothing with it.

    Raises:
        UnsupportedRunError: it cannot be copied.
    """
    return Original(module).private_copy()


@contextlib.contextmanager
def opened_script(job: Job, *, runner: str) -> Iterator[TorchSession]:
    """Give the session of a TorchScript file."""
    import torch

    require_trust(job)
    device = device_of(job)
    with configured(threads=job.threads, device=device), _without_fusing():
        with undisturbed(), models_errors(f"{job.source}: cannot be loaded: "):
            module = torch.jit.load(job.source, map_location=device)
        module = placed(module, job)
        parameters = schema_parameters(module)
        yield TorchSession(
            Loaded(
                runner=runner,
                module=module,
                device=device,
                parameters=parameters,
                candidates=lambda _: scripted_candidates(module, parameters, device),
                norm_paths=settable_paths(module),
                state_names=state_names(module),
                can_set_mode=has_mode(module),
            )
        )


@contextlib.contextmanager
def opened_program(job: Job, *, runner: str) -> Iterator[TorchSession]:
    """Give the session of an exported program."""
    import torch

    require_trust(job)
    device = device_of(job)
    with configured(threads=job.threads, device=device):
        with undisturbed(), models_errors(f"{job.source}: cannot be loaded: "):
            program = torch.export.load(job.source)
            inputs = program_inputs(program, job.batch_axis)
            module = placed(program.module(), job)
        yield TorchSession(
            Loaded(
                runner=runner,
                module=module,
                device=device,
                parameters=inputs,
                candidates=lambda _: program_candidates(inputs, program),
                fixed_batch=inputs.fixed_batch,
                state_names=state_names(module),
                can_set_mode=False,
            )
        )


@contextlib.contextmanager
def _without_fusing() -> Iterator[None]:
    """Keep TorchScript from writing kernels of its own: from the third call on they would round otherwise."""
    import torch

    before = torch._C._jit_texpr_fuser_enabled()
    try:
        torch._C._jit_set_texpr_fuser_enabled(False)
        yield
    finally:
        torch._C._jit_set_texpr_fuser_enabled(before)
