"""Symbolic evaluation of TorchScript code: which norm and random operators run, with which arguments.

Starting from ``forward`` every reachable method and function is followed with what is known: the saved attributes of
each module, literals, constants. Nothing is executed: values are descriptions. A branch on a known condition follows
one side, as the interpreter would; a branch on an unknown one follows both. A value that depends on a module's
``training`` carries the module's path, so that a mode that can still change is told from one that is baked in.
"""

from __future__ import annotations

import ast
import re

from bn_audit.containers.torch_file.reading import TorchFile
from bn_audit.errors import LimitExceededError, MalformedFileError
from bn_audit.flow.origin import Operation
from bn_audit.formats._torchscript.attributes import Attributes
from bn_audit.formats._torchscript.expressions import Frame, evaluate, unpacked
from bn_audit.formats._torchscript.graph import MUTATORS, Graph, Place, joined
from bn_audit.formats._torchscript.operators import INTERESTING
from bn_audit.formats._torchscript.serialised_code import MAX_CALL_DEPTH, CodeLibrary, FunctionCode
from bn_audit.formats._torchscript.statements import (
    CACHED_LENGTH,
    Block,
    Branch,
    Local,
    Loop,
    Simple,
    Statement,
    Within,
    attribute_name,
    parsed,
    targets,
)
from bn_audit.formats._torchscript.tree import ModuleTree
from bn_audit.formats._torchscript.values import (
    NO_FLAGS,
    Choice,
    Constant,
    LocalFunction,
    Module,
    Sequence,
    Tensor,
    Value,
    sequence_of,
    tensor_names,
)

_MUTATION = re.compile(rf"torch\.(?:{'|'.join(sorted(MUTATORS))})\(")

MAX_STEPS = 200_000
"""Cap on the statements evaluated; a ResNet-152 takes 5000."""

MAX_LONG = 4 << 20
"""Cap on the characters of long statements, each as often as it is evaluated: a megabyte takes up to 2 s to parse."""


class Evaluation:
    """One symbolic run of a model.

    Attributes:
        graph: What was found.
        reached: Paths of the modules of which a method was called.
        own_methods: Names of the root's methods that were called by others.
    """

    def __init__(self, code: CodeLibrary, tree: ModuleTree, constants: TorchFile, *, detailed: bool) -> None:
        self.graph = Graph(detailed=detailed)
        self.reached: set[str] = set()
        self.own_methods: set[str] = set()
        self._code = code
        self._tree = tree
        self._attributes = Attributes(tree, constants, self.graph)
        self._flags = NO_FLAGS
        self._steps = 0
        self._long = 0
        self._depth = 0

    def run(self, method: FunctionCode) -> None:
        """Evaluate a method of the root.

        Raises:
            ArtifactError: the code cannot be read, or is too large or too deeply nested.
        """
        root = self._attributes.module(self._tree.root)
        self.reached.add("")
        self.own_methods.add(method.name)
        arguments = tuple(self.graph.argument(name) for name, _default in method.parameters[1:])
        try:
            self._invoke(method, (root, *arguments), Frame({}, "", "", True))
        except RecursionError as error:
            raise LimitExceededError(f"{method.source}: code nested too deeply: not read") from error

    def attribute(self, module: Module, name: str) -> Value:
        """Return an attribute of a module or object."""
        return self._attributes.value(module, name)

    def children(self, container: Module) -> tuple[Module, ...]:
        """Return the modules in a container."""
        return self._attributes.children(container)

    def constant(self, name: str) -> Value:
        """Return a constant of the code that is stored apart, such as ``c7``."""
        return self._attributes.constant(name)

    def new_object(self, class_name: str, frame: Frame) -> Value:
        """Return a new object of a TorchScript class."""
        return Module(frame.path, class_name, {}, self._code.is_interesting(class_name))

    def operator(self, op: str, arguments: tuple[Value, ...], named: dict[str, Value], frame: Frame) -> Value:
        """Return the result of an operator."""
        return self.graph.operate(op, arguments, named, Place(path=frame.path, node=frame.node, flags=self._flags))

    def function(self, qualified: str, arguments: tuple[Value, ...], frame: Frame) -> Value:
        """Return the result of a function; one that cannot normalise is not followed."""
        function = self._code.function(qualified)
        owner = arguments[0] if arguments else None
        if function is not None and isinstance(owner, Module) and qualified == f"{owner.class_name}.{function.name}":
            return self.method(owner, function.name, arguments[1:], frame)
        if function is None:
            is_tuple = self._code.class_code(qualified) is not None
            return sequence_of(arguments) if is_tuple else self.graph.computed("call", arguments)
        if not self.graph.detailed and not self._code.is_interesting(qualified):
            return self.graph.computed("call", arguments)
        return self._invoke(function, arguments, Frame({}, frame.path, frame.node, False))

    def method(self, receiver: Value, name: str, arguments: tuple[Value, ...], frame: Frame) -> Value:
        """Return the result of a method; one of a module that cannot normalise is not followed."""
        if isinstance(receiver, Choice):
            return joined(self.graph, [self.method(module, name, arguments, frame) for module in receiver.modules])
        if not isinstance(receiver, Module):
            return self.graph.computed(f"method {name}", (receiver, *arguments))
        code = self._code.class_code(receiver.class_name)
        method = code.methods.get(name) if code else None
        if receiver.state:
            self.reached.add(receiver.path)
            if not receiver.path:
                self.own_methods.add(name)
        if method is None or not (receiver.interesting or self.graph.detailed):
            return self._opaque(receiver, arguments)
        inner = Frame({}, receiver.path, "" if receiver.path != frame.path else frame.node, True)
        return self._invoke(method, (receiver, *arguments), inner)

    def _opaque(self, receiver: Module, arguments: tuple[Value, ...]) -> Value:
        """Return the result of a module that is not followed."""
        result = self.graph.computed("call", arguments)
        if receiver.path in self._tree.modules:
            self.reached.update(module.path for module in self._tree.below(receiver.path))
            if "weight" in receiver.state:
                self.graph.made_by[result.name] = receiver.path
        return result

    def fork(self, function: LocalFunction, frame: Frame) -> Value:
        """Return the result of a function defined within the one that runs."""
        return self._run(function.body, Frame(dict(frame.names), frame.path, frame.node, frame.is_method))

    def _invoke(self, function: FunctionCode, arguments: tuple[Value, ...], frame: Frame) -> Value:
        if self._depth > MAX_CALL_DEPTH:
            raise LimitExceededError(f"{function.source}: calls nested more than {MAX_CALL_DEPTH} deep: not read")
        mutates = _MUTATION.search(function.text) is not None
        if mutates:
            arguments = tuple(self._mutable(value) for value in arguments)
        for index, (name, default) in enumerate(function.parameters):
            if index < len(arguments):
                frame.names[name] = arguments[index]
            else:
                frame.names[name] = evaluate(default, frame, self) if default else self.graph.unknown()
        frame.mutates = mutates
        self._depth += 1
        result = self._run(function.body, frame)
        self._depth -= 1
        return result

    def _mutable(self, value: Value) -> Value:
        """Return a list as a value that can change; the caller's own name for it is not followed."""
        if not isinstance(value, Sequence):
            return value
        self.graph.unsure = True
        return self.graph.computed("cat", (value,))

    def _run(self, block: Block, frame: Frame) -> Value:
        """Evaluate a block; return what it returns."""
        result: Value = Constant(None)
        for statement in block.statements:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise LimitExceededError(f"the code takes more than {MAX_STEPS} steps to follow: not read")
            if isinstance(statement, Simple):
                returned = self._simple(statement.text, frame)
                result = result if returned is None else returned
            else:
                self._compound(statement, frame)
        return result

    def _compound(self, statement: Statement, frame: Frame) -> None:
        match statement:
            case Branch():
                self._branch(statement, frame)
            case Loop():
                self._loop(statement, frame)
            case Within():
                if statement.bound:
                    frame.names[statement.bound] = self.graph.unknown()
                self._run(statement.body, frame)
            case Local():
                frame.names[statement.name] = LocalFunction(statement.body)

    def _simple(self, text: str, frame: Frame) -> Value | None:
        tree = self._parse(text)
        if frame.is_method:
            frame.node = ""
        if isinstance(tree, ast.Assign) and len(tree.targets) == 1:
            self._assign(tree.targets[0], tree.value, frame)
        elif isinstance(tree, ast.AnnAssign) and tree.value is not None:
            self._assign(tree.target, tree.value, frame)
        elif isinstance(tree, ast.Return):
            return evaluate(tree.value, frame, self) if tree.value else Constant(None)
        elif isinstance(tree, ast.Expr):
            evaluate(tree.value, frame, self)
        elif INTERESTING.search(text):
            raise MalformedFileError(f"the code has a line that cannot be read: {text[:80]!r}")
        else:
            for name in targets(text):
                frame.names[name] = self.graph.unknown()
        return None

    def _parse(self, text: str) -> ast.stmt | None:
        if len(text) > CACHED_LENGTH:
            self._long += len(text)
            if self._long > MAX_LONG:
                raise LimitExceededError(f"more than {MAX_LONG} characters in long lines of code: not read")
        return parsed(text)

    def _assign(self, target: ast.expr, expression: ast.expr, frame: Frame) -> None:
        if frame.is_method and isinstance(target, ast.Name):
            frame.node = target.id
        value = evaluate(expression, frame, self)
        if frame.mutates and isinstance(value, Sequence):
            value = self.graph.computed("cat", (value,))
        if isinstance(target, ast.Name):
            self._bind(target.id, value, frame)
        elif isinstance(target, ast.Tuple | ast.List):
            for item, part in zip(target.elts, unpacked(value, len(target.elts), self), strict=True):
                if isinstance(item, ast.Name):
                    self._bind(item.id, part, frame)
        elif isinstance(target, ast.Attribute):
            receiver = evaluate(target.value, frame, self)
            if isinstance(receiver, Module):
                receiver.assigned[attribute_name(target.attr)] = value

    def _bind(self, name: str, value: Value, frame: Frame) -> None:
        if self._flags and isinstance(value, Constant):
            value = Constant(value.value, value.flags | self._flags)
        frame.names[name] = value

    def _branch(self, statement: Branch, frame: Frame) -> None:
        tree = self._parse(statement.condition)
        condition = evaluate(tree.value, frame, self) if isinstance(tree, ast.Expr) else None
        if isinstance(condition, Constant):
            outer = self._flags
            self._flags = outer | condition.flags
            self._run(statement.then if condition.value else statement.otherwise, frame)
            self._flags = outer
            return
        before = frame.names
        frame.names = dict(before)
        self._run(statement.then, frame)
        then = frame.names
        frame.names = dict(before)
        self._run(statement.otherwise, frame)
        for name in statement.then.assigned | statement.otherwise.assigned:
            one, other = then.get(name), frame.names.get(name)
            if one is not other and one is not None:
                frame.names[name] = one if other is None else joined(self.graph, [one, other])

    def _loop(self, statement: Loop, frame: Frame) -> None:
        """Evaluate the body once, with every name that it carries from turn to turn not known."""
        carried: dict[str, tuple[Tensor, Value]] = {}
        for name in statement.body.assigned:
            initial = frame.names.get(name)
            if initial is not None and not isinstance(initial, Module | Choice):
                carried[name] = (self.graph.computed("loop", (initial,)), initial)
                frame.names[name] = carried[name][0]
        if statement.index:
            # Different turns are no different samples.
            frame.names[statement.index] = self.graph.computed("index", ())
        self._run(statement.body, frame)
        for name, (value, initial) in carried.items():
            turns = tensor_names((initial, frame.names[name]))
            self.graph.producers[value.name] = Operation(op="where", inputs=turns)
            frame.names[name] = value
