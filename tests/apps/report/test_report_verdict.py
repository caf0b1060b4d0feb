"""The first section of a report: what is known without masks, and what to do about it."""

import re
from pathlib import Path

from cti import pipeline
from cti.apps.report import write_report
from cti.evaluate.verdict import read_verdict
from cti.run import Run
from tiny import make_run


def test_the_verdict_comes_first_with_the_doubtful_photos_in_their_order(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    pipeline.evaluate(Run.open(folder))
    verdict = read_verdict(folder)
    assert verdict is not None
    assert verdict.doubtful, "untrained networks disagree"
    html = write_report(folder).read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]+)"', html)[:2] == ["verdict", "scores-val"]
    section = html[html.index('id="verdict"') : html.index('id="scores-val"')]
    shown = [doubt.photo for doubt in verdict.doubtful]
    assert re.findall(r'data-name="([^"]+)"', section) == shown
    assert re.findall(r'class="command"><code>(.*?)</code>', section) == [
        f"cti serve {folder} --photo {name}" for name in shown
    ]
    for doubt in verdict.doubtful:
        for reason in doubt.reasons:
            assert f"<li>{reason.text}</li>" in section
    assert "most doubtful first" in section
    assert section.count("<figure><button") >= 3 * len(shown)  # they enlarge
    assert f"<li>After corrections: <code>cti run --config {folder}</code></li>" in section
