"""Code of a project's own, in its repository: found without executing any of it, and loaded anew for each run.

Knows modules and files; not what the code is for. Modules found below the root are loaded under a private name, so that two
repositories, or two runs of one, never get each other's, nor an older version. What is installed is imported as ever, and nothing
below the root shadows it.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import attrs

from runtime.core.task import Handler
from runtime.errors import BadInput

_PREFIX: Final = "_journeyman_"
_numbers = itertools.count(1)
_live: Final[dict[str, Code]] = {}  # {private name: code}
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# --- finding ---------------------------------------------------------------------------------------------------


def file_in(root: Path, name: str) -> Path:
    """The Python file of that name below `root`. Raises BadInput for one that is not there, or elsewhere by `..` or a link."""
    try:
        top = root.resolve()
        file = (top / name).resolve()
        if Path(name).is_absolute() or not file.is_relative_to(top):
            raise BadInput(_outside(name))
        if name.endswith(".py") and file.is_file():
            return file
    except (OSError, ValueError, RuntimeError):  # no name of a file; links in a circle
        pass
    raise BadInput(f"there is no file {name}")


def _outside(name: str) -> str:
    return (
        f"{name} is outside the repository; name a file inside it by its path from the top folder, or install it as a package "
        "and name its module"
    )


def located(module: str, root: Path) -> ModuleSpec | None:
    """Where a module would come from, None when there is none. Raises BadInput for one below `root` that a link leads out of it."""
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    if is_own(module, root):
        spec = _below(root, module)
        if spec is not None and spec.origin and not Path(spec.origin).resolve().is_relative_to(root.resolve()):
            raise BadInput(_outside(module))
        return spec
    if module in sys.modules:
        return sys.modules[module].__spec__
    top, *rest = module.split(".")
    spec = _outer(top)
    for part in rest:
        folders = None if spec is None else spec.submodule_search_locations
        spec = None if spec is None or folders is None else PathFinder.find_spec(f"{spec.name}.{part}", list(folders))
    return spec


def is_own(module: str, root: Path) -> bool:
    """Whether a module comes from below `root`: it is there, and its top level is neither in use here already nor installed. The
    folder that this process was started in is no place of installed modules, though `python -m` has it on the path."""
    top = module.partition(".")[0]
    if _below(root, top) is None:
        return False
    running = sys.modules.get(top)
    spec = _outer(top) if running is None else None
    if running is not None and (hasattr(running, "__file__") or not hasattr(running, "__path__")):
        return False
    if (
        spec is None or spec.origin is None
    ):  # not installed, or a folder only, of which other places may have other parts
        return (spec is None and running is None) or _below(root, module) is not None
    if not spec.has_location:  # built in
        return False
    place = Path(spec.origin).parent if spec.submodule_search_locations is None else Path(spec.origin).parent.parent
    return place.resolve() in (root.resolve(), Path.cwd())


def _outer(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def _below(root: Path, module: str) -> ModuleSpec | None:
    """Where a module is below `root`, by its files alone."""
    spec, folders, name = None, [str(root)], ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = _first(folders, name)
        folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return spec


def _first(folders: Sequence[str], name: str) -> ModuleSpec | None:
    """A finder for each question: one that is kept remembers what was in a folder."""
    kinds = (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES)
    specs = (FileFinder(folder, *kinds).find_spec(name) for folder in folders)
    return next((spec for spec in specs if spec is not None), None)


def look_for(place: str, attribute: str, root: Path) -> _Definition | None:
    """How a module, or a file `*.py` below `root`, defines a name, without executing it; None when that cannot be told (an import, a
    decorator, an assignment, several of them). Raises BadInput when it does not."""
    if place.endswith(".py"):
        source: Path | None = file_in(root, place)
    else:
        spec = located(place, root)
        if spec is None:
            raise BadInput(f"there is no module {place}")
        source = Path(spec.origin) if spec.has_location and spec.origin and spec.origin.endswith(".py") else None
        if source is None and spec.origin is not None:  # compiled or built in
            return None
    try:
        found = list(_bound(ast.parse(source.read_bytes()))) if source is not None else []
    except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
        raise BadInput(f"{place} cannot be imported: {type(error).__name__}: {error}") from None
    ways = [node for name, node in found if name == attribute]
    if not ways and not any(name in ("*", "__getattr__") for name, _ in found):
        raise BadInput(f"there is no {attribute!r} in {place}")
    if len(ways) == 1 and isinstance(ways[0], _Definition) and not ways[0].decorator_list:
        return ways[0]
    return None


def _bound(module: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """(name, what binds it) of all that is bound at a module's top level; `*` for what is imported with it."""
    nodes: list[ast.AST] = [module]
    while nodes:
        for node in ast.iter_child_nodes(nodes.pop()):
            if isinstance(node, _Definition):
                yield node.name, node
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0], node
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id, node
            elif not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                nodes.append(node)


def signature_of(definition: _Definition) -> inspect.Signature | None:
    """What a function takes, or a class to make one of it; None where that cannot be told."""
    if not isinstance(definition, ast.ClassDef):
        return _signature(definition.args)
    made = [one for one in definition.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    if len(made) != 1 or made[0].decorator_list:
        return None
    whole = _signature(made[0].args)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _signature(given: ast.arguments) -> inspect.Signature:
    kind = inspect.Parameter
    found: list[tuple[str, Any]] = [(one.arg, kind.POSITIONAL_ONLY) for one in given.posonlyargs]
    found += [(one.arg, kind.POSITIONAL_OR_KEYWORD) for one in given.args]
    optional = {name for name, _ in found[len(found) - len(given.defaults) :]}
    optional |= {one.arg for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value is not None}
    found += [(given.vararg.arg, kind.VAR_POSITIONAL)] if given.vararg is not None else []
    found += [(one.arg, kind.KEYWORD_ONLY) for one in given.kwonlyargs]
    found += [(given.kwarg.arg, kind.VAR_KEYWORD)] if given.kwarg is not None else []
    return inspect.Signature([kind(name, how, default=... if name in optional else kind.empty) for name, how in found])


# --- loading ---------------------------------------------------------------------------------------------------


class _Loader(SourceFileLoader):
    """From the source as it is now: compiled code that is kept beside it is told to be old by whole seconds, and writing it would
    put files into the user's checkout."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = _live[_private(module.__name__)].builtins
        super().exec_module(module)


class _Finder:
    """Finds the modules of every `Code`; it stands before Python's own finders, and knows nothing of other names."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return _first(path, fullname) if path is not None and _private(fullname) in _live else None


_FINDER: Final = _Finder()


def imported(module: str, called: str = "") -> ModuleType:
    """An installed module, or one of a `Code`, which messages call otherwise. Raises BadInput."""
    return _tried(called or module, lambda: importlib.import_module(module))


def _tried(called: str, load: Callable[[], ModuleType]) -> ModuleType:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise BadInput(f"{called} cannot be imported: {type(error).__name__}: {error}") from None


def _private(name: str) -> str:
    return name.partition(".")[0]


class Code:
    """The code below a repository's root as it is now, from when it is first asked for; a module is loaded once.

    What an `import` statement in it names is looked for below the root as well, behind all that is installed, whenever the statement
    is reached, in whatever thread. `importlib.import_module` finds there only what is named relative to a package.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"{_PREFIX}{next(_numbers)}"
        self.builtins: Mapping[str, Any] = {**vars(builtins), "__import__": self._import}
        self._own: dict[str, bool] = {}  # {module: whether it is the repository's}
        top = ModuleType(self.name)
        top.__path__ = [str(root)]
        _live[self.name] = self
        sys.modules[self.name] = top
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(
                0, _FINDER
            )  # for good: whoever goes through the list meanwhile would miss the next one

    def close(self) -> None:
        """Forget the modules; whoever still runs in them can import no more."""
        _live.pop(self.name, None)
        for name in list(sys.modules):
            if _private(name) == self.name:
                del sys.modules[name]

    def load(self, place: str) -> ModuleType:
        """A module, or a file `*.py` below the root. Raises BadInput."""
        file = file_in(self.root, place) if place.endswith(".py") else None
        if file is None and located(place, self.root) is None:
            raise BadInput(f"there is no module {place}")
        if file is not None:
            return _tried(place, lambda: self._load_file(file))
        return imported(f"{self.name}.{place}" if self._is_own(place) else place, place)

    def _load_file(self, file: Path) -> ModuleType:
        key = file.relative_to(self.root.resolve()).with_suffix("").as_posix().replace(".", "_")
        name = f"{self.name}.{key}"  # in a folder: a name that no statement can import, as the file stands alone
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def _is_own(self, module: str) -> bool:
        if module not in self._own:
            self._own[module] = is_own(module, self.root)
        return self._own[module]

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` for the modules below the root."""
        if level or not self._is_own(name):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if fromlist:
            return builtins.__import__(f"{self.name}.{name}", None, None, fromlist, 0)
        importlib.import_module(f"{self.name}.{name}")
        return sys.modules[f"{self.name}.{_private(name)}"]


@attrs.frozen
class OwnHandler:
    """The handler that a project's configuration names, found and not loaded: that is for who is about to run it (`Ways.equip`)."""

    place: str
    attribute: str
    root: Path
    where: str  # for messages: the field that names it

    def load(self, code: Code) -> Handler:
        """The function itself. Raises BadInput."""
        try:
            handler = getattr(code.load(self.place), self.attribute, None)
        except BadInput as error:
            raise BadInput(f"{self.where}: {error}") from None
        if not inspect.iscoroutinefunction(handler):
            raise BadInput(self.no_handler())
        loaded: Handler = handler
        return loaded

    def no_handler(self) -> str:
        """What is wrong with something else in its place."""
        return f"{self.where}: {self.place}:{self.attribute} must be an async function (brief, workspace)"

    async def __call__(self, brief: Any, workspace: Any) -> Any:
        with closing(Code(self.root)) as code:
            return await self.load(code)(brief, workspace)
