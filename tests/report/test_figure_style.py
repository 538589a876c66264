"""The look of figures for papers."""

from matplotlib.figure import Figure

from unify.report.figure_style import log_axis


def test_costs_have_a_few_round_numbers_on_their_axis():
    axes = Figure().add_subplot()
    ranges = [(6.4e12, 8.8e12, "7T"), (2e-3, 3.0, "0.01"), (1e9, 4e13, "1G")]
    for low, high, printed in [*ranges, (0.9995e13, 1.0005e13, "10T")]:
        axes.clear()
        axes.scatter([low, high], [0, 1])
        log_axis(axes)
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert printed in labels
        assert 2 <= len(labels) <= 7
        assert len(set(labels)) == len(labels)
        assert not axes.get_xticks(minor=True).size
