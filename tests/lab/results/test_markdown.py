from __future__ import annotations

from reference.example_results import LONG_NAME, by_method, everything

from filtersmith.lab.results import markdown, tables


def test_markdown_has_whole_rows_and_shows_text_as_it_is():
    text = markdown.to_markdown(tables.build_table(everything()))
    title, _, head, rule, *rest = text.split("\n")
    assert title == "**digits · vanilla · cosine**"
    rows = rest[: rest.index("")]
    assert len(rows) == 6
    assert "Last epoch: " not in text, "the legend stands elsewhere, once"
    for line in (head, rule, *rows):
        assert line.replace("\\|", "").count("|") == 9, line
    assert f"| `{LONG_NAME}` | 10.00 ± 10.00 |" in text
    assert "`<i>odd</i>\\|name`" in text  # in code, where only the pipe would break the row
    assert markdown.to_markdown(tables.build_table(everything()), figures=3).split("\n")[2].count("|") == 5
    assert "&lt;b>lower&lt;/b> [red]the \\| rate" in text


def test_the_words_stand_left_and_the_figures_right():
    comparison = by_method({"baseline": [0.5] * 3, "wau": [0.6, 0.61, 0.65]})
    lines = markdown.to_markdown(tables.build_table(comparison)).splitlines()
    assert lines[3] == "|---|---:|---:|---|---:|---:|---:|---:|"
    assert "| +12.00 [+5.43, +18.57] | better by 5.43 to 18.57 points | 0.25 (0.25) | 8.64 |" in lines[5]


def test_several_comparisons_have_one_legend():
    text = markdown.whole([everything(), by_method({"baseline": [0.5]})])
    assert text.count("**digits · vanilla · cosine**") == 2
    assert text.count("- Last epoch: ") == 1
    assert text.endswith(".\n")
