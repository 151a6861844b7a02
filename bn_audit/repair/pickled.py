"""Repairs of pickled modules and TorchScript archives: their training flags, rewritten where they stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bn_audit.containers.target import FileTarget
from bn_audit.errors import MalformedFileError
from bn_audit.repair.changes import Change, Repair
from bn_audit.repair.flags import FALSE, Flag, module_flags, scripted_flags
from bn_audit.repair.overriding import has_source, overrides_mode
from bn_audit.repair.patching import write_patched
from bn_audit.subject.subject import Subject

Keeps = Callable[[Flag], str | None]
"""Returns the reason for which a module stays in training mode; None where it does not."""

NAMED = 3


def repair_modules(target: FileTarget, subject: Subject, keeps: Keeps) -> Repair:
    """Return the repair of a file written by ``torch.save`` that holds modules."""
    flags = module_flags(target.source, target.archive)
    if not flags:
        advice = "it holds no module and records no mode: call model.eval() in the code that loads it"
        return Repair(source=target.name, format=subject.format, refused=(advice,))
    return _repair(target, subject, flags, keeps, is_scripted=False)


def repair_scripted(target: FileTarget, subject: Subject, keeps: Keeps) -> Repair:
    """Return the repair of a TorchScript archive."""
    if target.archive is None:
        raise MalformedFileError(f"{target.name}: no TorchScript archive")
    return _repair(target, subject, scripted_flags(target.source, target.archive), keeps, is_scripted=True)


def _repair(target: FileTarget, subject: Subject, flags: Sequence[Flag], keeps: Keeps, *, is_scripted: bool) -> Repair:
    training = [flag for flag in flags if flag.value]
    kept = {flag.offset: reason for flag in training if (reason := keeps(flag)) is not None}
    changed = [flag for flag in training if flag.offset not in kept]
    refused = [] if is_scripted or not changed else list(_overriding(flags))
    if refused:
        changed = []
    remarks = [
        f"{_place(flag)} stays in training mode: {kept[flag.offset]}" for flag in training if flag.offset in kept
    ]
    if changed and not is_scripted:
        remarks += _unknown(flags)

    patches = {flag.offset: FALSE for flag in changed}
    source, archive = target.source, target.archive
    return Repair(
        source=target.name,
        format=subject.format,
        changes=tuple(
            Change(path=flag.path, what="training: True -> False", type_name=flag.type_name, model=flag.route)
            for flag in changed
        ),
        refused=tuple(refused),
        remarks=tuple(remarks),
        write=lambda path: write_patched(source, archive, patches, path),
    )


def _overriding(flags: Sequence[Flag]) -> Sequence[str]:
    """Return a sentence for each class that sets its mode in its own way."""
    return [
        f"{name} defines its own train() or eval() ({where}), which may do more than set flags: "
        "load the model, call eval() and save it"
        for name in dict.fromkeys(flag.type_name for flag in flags)
        if (where := overrides_mode(name)) is not None
    ]


def _unknown(flags: Sequence[Flag]) -> Sequence[str]:
    names = [name for name in dict.fromkeys(flag.type_name for flag in flags) if not has_source(name)]
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [
        f"the source of {', '.join(names[:NAMED])}{more} is not here: a train() or eval() of its own could not be seen"
    ]


def _place(flag: Flag) -> str:
    return flag.path or flag.route or "the root"
