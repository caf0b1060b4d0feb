"""The notebook of examples/: its cells run, in order, in a fresh name space, and its pictures are pictures."""

import ast
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "predictor.ipynb"


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as Jupyter does; returns the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names) if last else None


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)  # read TMPDIR again
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "__main__"}
    values = [run_cell("".join(cell["source"]), names) for cell in cells]
    assert names["work"].parent == tmp_path  # nothing is left behind
    prediction = names["prediction"]
    assert prediction in values
    with Image.open(BytesIO(prediction._repr_png_())) as picture:
        assert picture.height > prediction.size[0]
    assert {path.suffix for path in names["files"].values() if path.is_file()} == {".png", ".json", ".npz"}
    assert values[-1] is True  # the saved network says the same


def test_the_notebook_is_committed_with_its_pictures_and_without_traces_of_a_machine() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert {output["output_type"] for output in outputs} == {"execute_result"}  # no progress bars, no errors
    assert not any(place in NOTEBOOK.read_text() for place in ("/tmp/", "/home/", f"{Path.home()}/"))
