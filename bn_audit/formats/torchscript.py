"""TorchScript archives written by ``torch.jit.save``: scripted, traced, frozen, and mixes of these.

The module tree and its saved flags come from ``data.pkl``; which norm operators run, and in which mode, comes from
following the serialised code from ``forward``. Nothing is executed and torch is not needed.

Sources: torch/csrc/jit/docs/serialization.md; torch/csrc/jit/serialization/{export_module,python_print,pickler}.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bn_audit.containers.archive import Archive
from bn_audit.containers.target import FileTarget, Target
from bn_audit.containers.torch_file import TorchFile, read_torch_archive
from bn_audit.errors import ArtifactError, MalformedFileError, UnsupportedFormatError
from bn_audit.formats._torchscript_code import CodeLibrary, FunctionCode
from bn_audit.formats._torchscript_evaluation import Evaluation
from bn_audit.formats._torchscript_graph import NormCall
from bn_audit.formats._torchscript_inputs import Inputs, has_statistics
from bn_audit.formats._torchscript_norms import Evidence, norm_layers
from bn_audit.formats._torchscript_tree import ModuleTree, TreeModule
from bn_audit.formats._torchscript_values import Constant
from bn_audit.interfaces import Format
from bn_audit.recognition.tree import ModuleAccess, read_tree
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, Form, Model, Subject

NAME = "torchscript"

ENTRY = "forward"

_SETTINGS = Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH


def sniff(target: Target) -> bool:
    """Return whether the target is a TorchScript archive, of any version and for any interpreter."""
    if not isinstance(target, FileTarget):
        return False
    archive = target.archive
    return archive is not None and (_has_code(archive) or _is_mobile(archive) or _is_old(archive))


def read(target: Target) -> Subject:
    """Return the one model of the archive.

    Raises:
        UnsupportedFormatError: an archive of torch before 1.4, or one with bytecode alone.
        MalformedFileError: truncated, corrupt or inconsistent.
        LimitExceededError: larger or deeper than this tool reads.
    """
    archive = target.archive if isinstance(target, FileTarget) else None
    if not isinstance(target, FileTarget) or archive is None:
        raise MalformedFileError(f"{target.name}: no TorchScript archive")
    if not _has_code(archive):
        raise _unsupported(target.name, archive)
    try:
        return _read(target, archive)
    except ArtifactError as error:
        if target.name in str(error):
            raise
        raise type(error)(f"{target.name}: {error}") from error


def _read(target: FileTarget, archive: Archive) -> Subject:
    file = read_torch_archive(target.source, archive)
    constants = read_torch_archive(target.source, archive, pickle="constants.pkl", tensors="constants/")
    code = CodeLibrary(archive)
    tree = ModuleTree(file, code, source=target.name)
    model, registered = read_tree(tree.root, route="", access=_access(tree), registered=frozenset())
    run, inputs = _follow(code, tree, constants)
    others = _follow_exported(code, tree, constants, run)
    evidence = Evidence(
        tree=tree,
        constants=constants,
        registered={layer.path: layer for layer in registered},
        calls=tuple(run.graph.norms),
        inputs=inputs,
        graph=run.graph,
        reached=frozenset(run.reached),
        exported=frozenset().union(*(other.reached for _name, other in others)),
    )
    norms = norm_layers(evidence)
    facts = _SETTINGS
    if model.takes_gradients is not None:
        facts |= Facts.GRADIENTS
    if all(norm.path in tree.modules for norm in norms):
        facts |= Facts.REGISTRY
    return Subject(
        source=target.name,
        format=NAME,
        facts=facts,
        models=(replace(model, form=Form.GRAPH, mode=_mode(model, norms)),),
        norms=norms,
        random_calls=tuple(run.graph.randoms),
        unread=tuple(_unfollowed(name, other) for name, other in others if other.graph.norms or other.graph.randoms),
    )


def _has_code(archive: Archive) -> bool:
    prefix = f"{archive.root}code/"
    return f"{archive.root}constants.pkl" in archive and any(name.startswith(prefix) for name in archive.members)


def _is_mobile(archive: Archive) -> bool:
    return f"{archive.root}bytecode.pkl" in archive and f"{archive.root}data.pkl" in archive


def _is_old(archive: Archive) -> bool:
    prefix = f"{archive.root}code/"
    return f"{archive.root}model.json" in archive and any(name.startswith(prefix) for name in archive.members)


def _unsupported(name: str, archive: Archive) -> UnsupportedFormatError:
    if _is_mobile(archive):
        return UnsupportedFormatError(
            f"{name}: a TorchScript archive for the lite interpreter with bytecode and no code: "
            "audit the archive that torch.jit.save wrote, or keep the code when it is saved"
        )
    return UnsupportedFormatError(
        f"{name}: a TorchScript archive of torch before 1.4 (model.json): "
        "load it with torch.jit.load and save it again with a newer torch"
    )


def _access(tree: ModuleTree) -> ModuleAccess:
    def children(module: object) -> Iterator[tuple[str, object]]:
        return iter(module.children.items() if isinstance(module, TreeModule) else ())

    return ModuleAccess(
        is_module=lambda value: isinstance(value, TreeModule),
        children=children,
        attributes=lambda module: module.settings if isinstance(module, TreeModule) else {},
        describe=lambda module, _path: tree.describe(module if isinstance(module, TreeModule) else tree.root),
        inner_values=lambda _value: iter(()),
    )


def _follow(code: CodeLibrary, tree: ModuleTree, constants: TorchFile) -> tuple[Evaluation, Inputs]:
    """Evaluate ``forward``; a second time with shapes where a call in training form calls for it."""
    for detailed in (False, True):
        run = Evaluation(code, tree, constants, detailed=detailed)
        for method in _entries(tree.root):
            run.run(method)
        inputs = Inputs(run.graph)
        if not any(_needs_detail(call, inputs) for call in run.graph.norms):
            break
    return run, inputs


def _entries(root: TreeModule) -> tuple[FunctionCode, ...]:
    """Return ``forward`` and the hooks that run with it; every method of a model that has none."""
    if root.code is None or ENTRY not in root.code.methods:
        return tuple(root.code.methods.values()) if root.code else ()
    declared = root.code.declared
    names = (*declared.get("forward_pre_hooks", ()), ENTRY, *declared.get("forward_hooks", ()))
    return tuple(root.code.methods[name] for name in names if name in root.code.methods)


def _needs_detail(call: NormCall, inputs: Inputs) -> bool:
    """Only a call in training form can be harmless after all, and hardly one with running statistics."""
    if isinstance(call.training, Constant) and not call.training.value:
        return False
    return call.op != "instance_norm" and (not has_statistics(call) or inputs.comes_from_parameters(call))


def _follow_exported(
    code: CodeLibrary, tree: ModuleTree, constants: TorchFile, run: Evaluation
) -> tuple[tuple[str, Evaluation], ...]:
    """Evaluate the methods of the root that ``forward`` does not call: a caller may."""
    methods = tree.root.code.methods if tree.root.code else {}
    found = []
    for name, method in methods.items():
        if name not in run.own_methods and not name.startswith("__"):
            other = Evaluation(code, tree, constants, detailed=False)
            other.run(method)
            found.append((name, other))
    return tuple(found)


def _unfollowed(name: str, other: Evaluation) -> str:
    norms, randoms = len(other.graph.norms), len(other.graph.randoms)
    return f"method {name}() is not called by {ENTRY}() and not judged: {norms} norm and {randoms} random calls"


def _mode(model: Model, norms: tuple[NormLayer, ...]) -> Mode:
    """Return the root's saved flag; where every mode is baked in, the one that they share."""
    judged = [norm for norm in norms if norm.kind.is_batch_norm]
    if not judged or any(norm.mode_origin is not ModeOrigin.TRACED_CONSTANT for norm in judged):
        return model.mode
    modes = {norm.mode for norm in judged}
    return modes.pop() if len(modes) == 1 else Mode.UNKNOWN


FORMAT = Format(
    name=NAME,
    summary="TorchScript archive written by torch.jit.save: scripted, traced or frozen",
    tells="modes as saved or as baked into the code, settings, tensors, dropout and random calls",
    cannot_tell="code of custom C++ classes and bytecode of the lite interpreter; archives of torch before 1.4",
    sniff=sniff,
    read=read,
)
