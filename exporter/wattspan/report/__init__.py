"""report: one attempt of a run, told to people and programs: Markdown, JSON, CSV, and one HTML page.

In comes a `RunRecord` of the journal, out comes text; nothing is read, priced or measured here.
Each figure is a value, or is missing with its reason; none is guessed, and none is 0 because it is unknown.

``figures`` derives what a record implies, ``ranges`` between what and what each total lies, ``sci`` grams per
functional unit, ``provenance`` who priced what; ``statements`` says how sure that is and what nobody knows,
``report`` gathers both for one attempt; ``as_json``, ``as_csv``, ``as_markdown`` and ``as_html`` write it,
with ``quantities`` for numbers, ``charts`` for what is drawn and ``markup`` for what has to be escaped.
JSON and CSV are versioned: `SCHEMA` names the version, ``report.schema.json`` is the JSON's schema.
Members and columns are only ever added within a version.
"""

from wattspan.report.report import SCHEMA, Report, report_of

__all__ = ["SCHEMA", "Report", "report_of"]
