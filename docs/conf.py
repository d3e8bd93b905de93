"""Sphinx's settings: ``make docs`` builds the site into build/docs."""

import inspect
from pathlib import Path
import re
import sys
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import sk_mixup  # noqa: E402

project = "sk-mixup"
author = "The sk-mixup developers"
version = release = sk_mixup.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "recorded_results",
]
exclude_patterns = ["_ext", "_templates", "gallery", "**/GALLERY_HEADER.rst"]
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme = "pydata_sphinx_theme"
html_title = "sk-mixup"
html_favicon = "_static/mark.svg"
smartquotes = False  # --data-dir is no dash
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"image_light": "_static/mark.svg", "image_dark": "_static/mark.svg", "text": "sk-mixup"},
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 5,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"start": [], "choose": [], "faq": [], "glossary": [], "coming_from": [], "peers": []}
copyright = f"2026, {author}"

# Every link to a page, a term or a name of ours must lead somewhere; other libraries' are not looked up.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(skorch|sklearn|torch|numpy|pandas|joblib|accelerate|np|nn)(\..*)?"),
    (r"py:obj", r"[a-z_]+_"),  # learned attributes, which stand in the list of their class
]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def list_own_methods(name: str, members: list[str]) -> list[str]:
    """Return what of a class this package documents as a method, which leaves out those of skorch."""
    module, _, owner = name.rpartition(".")
    documented = getattr(sys.modules[module], owner)
    return [member for member in members if is_own_method(inspect.getattr_static(documented, member, None))]


def is_own_method(member: object) -> bool:
    """Whether a member of a class is a documented method, or property, of this package."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    is_ours = getattr(function, "__module__", None) or ""
    return callable(function) and is_ours.startswith("sk_mixup") and bool(function.__doc__)


autosummary_context = {"list_own_methods": list_own_methods}
suppress_warnings = ["config.cache"]  # that function


def escape_shapes(*event: Any) -> None:
    """Show ``(n, *features)`` and ``(n_features_in_,)`` in a docstring as they are written, not as markup."""
    lines = event[-1]
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("``")
            parts[::2] = (re.sub(r"(?<![\w*\\])\*(?=[a-z]\w*[,)])", r"\\*", part) for part in parts[::2])
            parts[::2] = (re.sub(r"(?<=\w)_(?=[,)])", r"\\_", part) for part in parts[::2])
            lines[number] = "``".join(parts)


def mend_roles(*event: Any) -> None:
    """Call references the items of a list: browsers no longer know the role that docutils writes."""
    context = event[3]
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Any) -> None:
    """Register what Sphinx calls."""
    app.connect("autodoc-process-docstring", escape_shapes, priority=100)
    app.connect("html-page-context", mend_roles)


sphinx_gallery_conf = {
    "examples_dirs": ["gallery"],
    "gallery_dirs": ["generated/gallery"],
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "reset_modules": ("matplotlib", "gallery_style.set_style"),
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1,
    "plot_gallery": "True",
    "image_scrapers": ("matplotlib",),
    "copyfile_regex": r"(?!)",
    "write_computation_times": False,
}
