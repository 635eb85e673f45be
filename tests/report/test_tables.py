"""Names in tables are text, whatever they hold."""

import csv

import numpy as np

from mlfem_jax.report.tables import escape_latex, write_csv


def test_cells_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", "a=b", "'q"]
    rows = [(name, -1.5, np.float64(-2.0), np.float32(-0.5), -3, None) for name in names]
    write_csv(tmp_path / "a.csv", ("=head", "x"), rows)
    with open(tmp_path / "a.csv", newline="") as file:
        header, *read = list(csv.reader(file))
    assert header == ["'=head", "x"]
    assert [row[0] for row in read] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", r"'\tx", r"'\rx", "plain", "a=b", "'q"]
    assert all(row[1:] == ["-1.5", "-2", "-0.5", "-3", ""] for row in read)


def test_latex_sets_every_character():
    assert escape_latex(r"a_b&c%d$e#f{g}h~i^j\k<l>m|n") == (
        r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k\textless{}l\textgreater{}"
        r"m\textbar{}n"
    )
    assert escape_latex("a\nb\x1b") == r"a\textbackslash{}nb\textbackslash{}x1b"
    assert escape_latex("Grad-CAM é") == "Grad-CAM é"
