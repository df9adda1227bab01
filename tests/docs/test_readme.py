"""README.md: its tables are those of the code and of the results, its links lead somewhere, and it stays short."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """`python docs/readme_tables.py --check` of a checkout."""
    command = [sys.executable, str(folder / "docs" / "readme_tables.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_the_tables_are_up_to_date():
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_a_figure_that_is_not_in_the_results_is_noticed(tmp_path):
    for name in ("docs", "bench", "nasfast"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "_ext").symlink_to(ROOT / "docs" / "_ext")
    (tmp_path / "docs" / "readme_tables.py").write_text((ROOT / "docs" / "readme_tables.py").read_text())
    text = README.read_text()
    (tmp_path / "README.md").write_text(text)
    assert check(tmp_path).returncode == 0
    begin = text.index("<!-- measured -->")
    changed = text[:begin] + re.sub(r"\d ms", "0 ms", text[begin:], count=1)
    assert changed != text
    (tmp_path / "README.md").write_text(changed)
    done = check(tmp_path)
    assert done.returncode == 1
    assert "out of date" in done.stderr


def test_it_has_at_most_200_lines():
    assert len(README.read_text().splitlines()) <= 200


def test_its_first_lines_say_that_no_kernel_has_run_on_a_gpu():
    first = "\n".join(README.read_text().splitlines()[:12])
    assert "none has run on a GPU yet" in first


def test_links_lead_to_files():
    for page in (README, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (ROOT / target).exists() or target.startswith("https://"), f"{page.name}: {target}"
