"""Plug-ins by name: one module, one plug-in, found by a folder scan or by an entry point of an outside package.

A registry belongs to one kind (`judge`, `strategy`, …). Its plug-in packages are scanned on first use: every module
whose name does not start with an underscore must register exactly one plug-in, under the module's own name. Importing
all of them imports nothing heavy; tests/architecture holds that.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import inspect
import pkgutil
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from tracemend.kit.errors import SetupError

P = TypeVar("P", bound=Callable[..., Any])


class Registry(Generic[P]):
    """The plug-ins of one kind. `group` is the entry-point group of outside packages."""

    def __init__(self, kind: str, *, package: str, group: str) -> None:
        self.kind = kind
        self._package = package
        self._group = group
        self._plugins: dict[str, P] = {}
        self._scanned = False
        self._scanning = threading.RLock()

    def register(self, plugin: P) -> P:
        """Decorator: register `plugin` under the name of the module that defines it."""
        name = plugin.__module__.rsplit(".", 1)[-1]
        known = self._plugins.get(name)
        if known is not None and known.__module__ != plugin.__module__:
            raise SetupError(f"two {self.kind} plug-ins are named '{name}': {known.__module__}, {plugin.__module__}")
        self._plugins[name] = plugin
        return plugin

    def get(self, name: str) -> P:
        """The plug-in called `name`; a `SetupError` that lists the known names if there is none."""
        self._scan()
        try:
            return self._plugins[name]
        except KeyError:
            raise SetupError(f"unknown {self.kind} '{name}'{did_you_mean(name, self.names())}") from None

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Call plug-in `name` with `options`, after checking them against its signature."""
        return self.compose(name, {}, options, *args)

    def compose(self, name: str, parts: Mapping[str, Any], options: Mapping[str, Any], *args: Any) -> Any:
        """Call plug-in `name` with `parts`, which whoever composes it puts in, and `options`, which a user wrote; the
        message about an unknown option lists the latter alone."""
        plugin = self.get(name)
        try:
            _signature(plugin).bind(*args, **parts, **options)
        except TypeError as error:
            taken = [p.name for p in _signature(plugin).parameters.values() if p.kind is p.KEYWORD_ONLY]
            known = ", ".join(option for option in taken if option not in parts)
            raise SetupError(f"{self.kind} '{name}': {error}; its options are {known or 'none'}") from None
        for option, value in options.items():
            if problem := _problem(plugin, option, value):
                raise SetupError(f"{self.kind} '{name}': option '{option}': {problem}")
        return plugin(*args, **parts, **options)

    def names(self) -> list[str]:
        """Every known name, sorted."""
        self._scan()
        return sorted(self._plugins)

    def _scan(self) -> None:
        with self._scanning:  # a thread that asks meanwhile waits, or it would know a part of the names
            if not self._scanned:
                self._scanned = True
                self._import_all()

    def _import_all(self) -> None:
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__, f"{self._package}."):
            if not module.name.rsplit(".", 1)[-1].startswith("_"):
                importlib.import_module(module.name)
        for entry in importlib.metadata.entry_points(group=self._group):
            try:
                importlib.import_module(entry.module)
            except ImportError as error:
                raise SetupError(
                    f"{self.kind} '{entry.name}' cannot be imported from {entry.module} ({error}); reinstall or remove "
                    "the package that declares it"
                ) from error


@functools.cache
def _signature(plugin: Callable[..., Any]) -> inspect.Signature:
    """Kept, because some plug-ins are created for every unit."""
    return inspect.signature(plugin)


def _problem(plugin: Callable[..., Any], option: str, value: Any) -> str:
    """What is wrong with the type of a plain value; empty where nothing is, or where the option is no plain value."""
    from pydantic import ValidationError

    adapter = _adapters(plugin).get(option)
    if adapter is None:
        return ""
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["msg"])
    return ""


@functools.cache
def _adapters(plugin: Callable[..., Any]) -> dict[str, Any]:
    """Validators of the options that are numbers, words, switches, or may be left out."""
    from pydantic import TypeAdapter

    try:
        hints = get_type_hints(plugin)
    except NameError:  # a plug-in whose annotations are for type checkers alone
        return {}
    return {name: TypeAdapter(hint) for name, hint in hints.items() if _is_plain(hint)}


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_plain(each) for each in get_args(hint))
    return hint in (bool, int, float, str, type(None))


def did_you_mean(name: str, known: list[str]) -> str:
    """`; did you mean 'x'? Known: a, b, x` for an error about an unknown name."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"{hint} Known: {', '.join(known) or 'none'}" if hint else f"; known: {', '.join(known) or 'none'}"
