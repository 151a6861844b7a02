"""Reads one archive: its module tree, and what its code does from ``forward``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bn_audit.containers.archive import Archive
from bn_audit.containers.target import FileTarget
from bn_audit.containers.torch_file.reading import TorchFile, read_torch_archive
from bn_audit.formats._torchscript.evaluation import Evaluation
from bn_audit.formats._torchscript.graph import NormCall
from bn_audit.formats._torchscript.inputs import Inputs, has_statistics
from bn_audit.formats._torchscript.norms import Evidence, norm_layers
from bn_audit.formats._torchscript.serialised_code import CodeLibrary, FunctionCode
from bn_audit.formats._torchscript.tree import ModuleTree, TreeModule
from bn_audit.formats._torchscript.values import Constant
from bn_audit.formats._torchscript.weighted import constants_of, weighted_layers
from bn_audit.recognition.tree import ModuleAccess, read_tree
from bn_audit.subject.norm import Mode, ModeOrigin, NormLayer
from bn_audit.subject.subject import Facts, Form, Model, Subject

ENTRY = "forward"

_SETTINGS = Facts.MODES | Facts.SETTINGS | Facts.VALUES | Facts.GRAPH


def read_archive(target: FileTarget, archive: Archive, *, format_name: str) -> Subject:
    """Return the one model of an archive that has code; see the format's ``read``."""
    file = read_torch_archive(target.source, archive)
    constants = read_torch_archive(target.source, archive, pickle="constants.pkl", tensors="constants/")
    code = CodeLibrary(archive)
    tree = ModuleTree(file, code, source=target.name)
    read = read_tree(tree.root, route="", access=_access(tree), registered=frozenset())
    model, registered = read.model, read.norms
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
        format=format_name,
        facts=facts,
        models=(
            replace(model, form=Form.GRAPH, mode=_mode(model, norms), tensors=model.tensors or constants_of(constants)),
        ),
        norms=norms,
        weighted=tuple(weighted_layers(run.graph.weighted, constants)),
        random_calls=tuple(run.graph.randoms),
        unread=tuple(_unfollowed(name, other) for name, other in others if other.graph.norms or other.graph.randoms),
    )


def _access(tree: ModuleTree) -> ModuleAccess:
    def children(module: object) -> Iterator[tuple[str, object]]:
        return iter(module.children.items() if isinstance(module, TreeModule) else ())

    return ModuleAccess(
        is_module=lambda value: isinstance(value, TreeModule),
        children=children,
        attributes=lambda module: module.settings if isinstance(module, TreeModule) else {},
        describe=lambda module, _path: tree.describe(module if isinstance(module, TreeModule) else tree.root),
        is_container=lambda _value: True,
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
