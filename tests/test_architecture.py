"""The import rules of docs/architecture.md, and a few habits, read off the syntax trees of src/cti."""

import ast
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from cti.config import Config

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cti"
MODULES = {
    ".".join(("cti", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
TOP = ("cti.pipeline", "cti.evaluate.stage", "cti.predict", "cti.apps", "cti.cli", "cti.commands")
LATER = ("cti.masks", "cti.segment", "cti.evaluate", *TOP)  # what follows the seeds

# place -> what it may not import, in both cases with everything below
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "cti.classes": ("cti",),
    "cti.config": ("cti",),
    "cti.files": ("cti",),
    "cti.method": ("cti.data", "cti.train", "cti.seeds", *LATER),
    "cti.method.attention": ("cti",),
    "cti.data": ("cti.train", "cti.seeds", *LATER),
    "cti.train": ("cti.seeds", "cti.masks", "cti.segment", *TOP),
    "cti.seeds": LATER,
    "cti.masks": ("cti.segment", "cti.evaluate", *TOP),
    "cti.segment": ("cti.method.network", "cti.method.bank", "cti.method.step", "cti.method.losses", "cti.seeds",
                    "cti.evaluate", *TOP),
    "cti.evaluate": ("cti.segment", *(place for place in TOP if place != "cti.evaluate.stage")),
    "cti.run": ("cti.train", "cti.seeds", *LATER),
}  # fmt: skip
# The other way round: the only ones of ours that may be imported.
ALLOWED: dict[str, tuple[str, ...]] = {"cti.method.losses": ("cti.method.attention",)}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports anywhere, functions included, with the line."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            assert node.module is not None
            # `from cti import pipeline` imports cti.pipeline; `from cti.method import CTI` comes out of its package
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name if name in MODULES else node.module, node.lineno) for name in names)


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def test_the_rules_speak_of_what_exists() -> None:
    for place, forbidden in FORBIDDEN.items():
        for name in (place, *forbidden):
            assert name in MODULES, f"{name} does not exist (any more)"


@pytest.mark.parametrize("place", FORBIDDEN)
def test_forbidden_imports(place: str) -> None:
    found = [
        f"{module}:{line} imports {imported}"
        for module, path in MODULES.items()
        if within(module, place)
        for imported, line in imports(path)
        for forbidden in FORBIDDEN[place]
        if within(imported, forbidden) and not within(imported, place)
    ]
    assert not found


@pytest.mark.parametrize("place", ALLOWED)
def test_only_these_imports(place: str) -> None:
    ours = {name for name, _ in imports(MODULES[place]) if within(name, "cti")}
    assert ours <= set(ALLOWED[place])


def test_segment_takes_no_cti_network() -> None:
    """`from cti.method import CTI` would come round the rule, for the package hands it on."""
    for module, path in MODULES.items():
        if within(module, "cti.segment"):
            names = {alias.name for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)
                     for alias in node.names if node.module == "cti.method"}  # fmt: skip
            assert not names & {"CTI", "CTIOutput", "TokenBank"}, module


def test_the_command_line_is_imported_by_nobody_else() -> None:
    for module, path in MODULES.items():
        if module not in ("cti.__main__", "cti.cli", "cti.commands"):
            for imported, line in imports(path):
                assert not within(imported, "cti.cli"), f"{module}:{line}"
                assert not within(imported, "cti.commands"), f"{module}:{line}"


def calls(name: str) -> Iterator[str]:
    """Where a function or method of that name is called."""
    for module, path in MODULES.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = node.func
                found = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                if found == name:
                    plain = isinstance(called, ast.Name)
                    yield f"{module}:{node.lineno}" + ("" if plain else " (method)")


def test_only_the_command_line_prints() -> None:
    assert not [place for place in calls("print") if "(method)" not in place and not place.startswith("cti.cli:")]


def test_people_are_talked_to_on_stderr() -> None:
    """What is written to stdout is read by other programs; there rich writes its bars, unless it is told otherwise."""
    for module, path in MODULES.items():
        bars = {
            name.name
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ImportFrom) and node.module == "rich.progress"
            for name in node.names
        } & {"track", "Progress"}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if node.func.id == "Console":
                    assert given.get("stderr") == "True", f"{module}:{node.lineno}"
                if node.func.id in bars:
                    assert "console" in given, f"{module}:{node.lineno}"


def test_no_device_is_named_in_the_code() -> None:
    assert not list(calls("cuda"))


def test_no_bare_except() -> None:
    for module, path in MODULES.items():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{module}:{node.lineno}"


def test_files_stay_small() -> None:
    """About 300 lines; config.py is one list of settings."""
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {module: count for module, count in lines.items() if count > 420 and module != "cti.config"}


def test_few_modules_lie_loose() -> None:
    """Twelve beside `__init__` and `__main__`; everything else lies in a package, by what it is about."""
    loose = [path.stem for path in SOURCE.glob("*.py") if not path.stem.startswith("__")]
    assert len(loose) <= 12, sorted(loose)


def settings_of(section: object, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for field in fields(section):  # type: ignore[arg-type]
        value = getattr(section, field.name)
        yield from settings_of(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]


def test_every_setting_is_read() -> None:
    """A setting whose name no other module asks an object for does nothing."""
    nodes = (node for module, path in MODULES.items() if module != "cti.config" for node in ast.walk(tree(path)))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    assert not [name for name in settings_of(Config()) if name.split(".")[-1] not in read]
