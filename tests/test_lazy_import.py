"""`import cti` offers the names people hold on to, and costs nothing before they are used."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import cti


def test_importing_the_package_or_its_command_imports_no_torch() -> None:
    code = "import sys, cti, cti.cli, cti.commands, cti.apps.export; print(cti.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [version("cti"), "False"]


def test_names_lead_to_their_places() -> None:
    from cti.method import CTI
    from cti.predict.prediction import Prediction
    from cti.predict.predictor import Predictor

    assert (cti.CTI, cti.Prediction, cti.Predictor) == (CTI, Prediction, Predictor)
    assert set(cti.__all__) <= set(dir(cti))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cti' has no attribute 'Predicter'"):
        cti.Predicter  # noqa: B018
