"""What `import nasfast` and the commands load: nothing heavy before it is needed, and no change to the environment."""

import json
import os
import pkgutil
import subprocess
import sys

import pytest

import nasfast
from nasfast.cli.group import COMMANDS

HEAVY = (
    *("torch", "numpy", "scipy", "sklearn", "optuna", "PIL", "torchvision", "safetensors", "nasfast._C"),
    *("rich", "pydantic", "typer", "markdown_it", "jinja2", "pyarrow", "charset_normalizer"),
)

WITHOUT_EXTENSION = """
import sys
sys.modules["nasfast._C"] = None  # as where it was never built
from nasfast.cli.app import main
main()
"""


def python(code, *arguments):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    return done


def loaded(code):
    """The heavy modules that a piece of code loads, in a fresh interpreter."""
    found = python(f"{code}\nimport sys, json\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_nasfast_itself_loads_nothing_heavy():
    assert loaded("import nasfast") == []


def test_a_name_loads_what_it_needs():
    assert "nasfast._C" not in loaded("import nasfast; nasfast.make_space('nasbench201')")
    assert "torch" in loaded("import nasfast; nasfast.accelerate")


def test_the_report_of_a_search_loads_no_models_of_tables():
    assert "pyarrow" not in loaded("import nasfast.report.build, nasfast.api; nasfast.api.is_model('.')")


def test_every_public_name_is_there():
    for name in nasfast.__all__:
        assert getattr(nasfast, name) is not None
    assert set(nasfast.__all__) <= set(dir(nasfast))
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nasfast.serach  # noqa: B018


def test_no_function_bears_the_name_of_a_package():
    packages = {module.name for module in pkgutil.iter_modules(nasfast.__path__)}
    assert not packages & set(nasfast.__all__)


@pytest.mark.parametrize(
    "arguments",
    [
        *([name, "--help"] for name in COMMANDS),
        *(["--help"], [], ["--version"], ["search", "--help-for", "gradient"]),
        *(["serch"], ["search", "--epohcs", "3"], ["compare", "--seed", "x"], ["retrain"], ["info", "extra"]),
    ],
)
def test_help_and_wrong_usage_load_nothing_heavy(arguments):
    run = f"import sys\nsys.argv = ['nasfast', *{arguments}]\nfrom nasfast.cli.app import main\n"
    assert loaded(f"{run}try:\n    main()\nexcept SystemExit:\n    pass") == []


def test_the_list_of_commands_loads_none_of_them():
    code = "import sys\nsys.argv = ['nasfast', '--help']\nfrom nasfast.cli.app import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print([n for n in sys.modules if n.startswith(('nasfast.config', 'nasfast.cli.commands'))])"
    assert python(code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--space", "nasbench201", "--strategy", "spos", "--epochs", "0"],
        ["--warmup-epochs", "50"],
        ["--budget", "soon"],
    ],
)
def test_settings_out_of_range_are_refused_before_torch_is_loaded(arguments):
    run = f"import sys\nsys.argv = ['nasfast', 'search', *{arguments}]\nfrom nasfast.cli.app import main\n"
    found = loaded(f"{run}try:\n    main()\nexcept SystemExit as error:\n    assert error.code == 1")
    assert "torch" not in found


def test_an_import_changes_no_environment():
    code = "import os\nbefore = dict(os.environ)\nimport nasfast\nnasfast.accelerate\nassert dict(os.environ) == before"
    assert python(code).returncode == 0


def test_info_says_why_there_is_no_extension():
    found = python(WITHOUT_EXTENSION, "info")
    assert found.returncode == 0, found.stderr
    assert "not loaded: nasfast._C is not there" in found.stdout


def test_a_table_is_searched_and_reported_without_the_extension(tmp_path):
    table = tmp_path / "table.json"
    space = nasfast.make_space("nasbench-macro")
    table.write_text(json.dumps({space.decode(row): 90.0 + i % 7 for i, row in enumerate(space.all_rows())}))
    run = tmp_path / "run"
    options = ["search", "--space", "nasbench-macro", "--table", str(table), "--evaluations", "5", "--out", str(run)]
    found = python(WITHOUT_EXTENSION, *options)
    assert found.returncode == 0, found.stderr
    assert "searched   nasbench-macro, 5 evaluations" in found.stdout
    assert python(WITHOUT_EXTENSION, "report", str(run)).returncode == 0
    assert os.path.getsize(run / "report.html") > 10_000
