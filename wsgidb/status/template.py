"""The template of the status page."""

from jinja2 import Environment, PackageLoader, StrictUndefined

page = (
    Environment(
        loader=PackageLoader("wsgidb.status", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    .get_template("page.html")
    .render
)
