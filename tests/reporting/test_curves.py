"""Run directories are read as arrays, and drawn: values, labels and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from stacx.agents import METAPARAMETERS
from stacx.config import Config
from stacx.errors import ConfigError
from stacx.reporting import RunData, build_figure, plot_runs, read_run

STEPS = (1000, 2000, 3000)


def metaparameter(config, name, head, step):
    """What the run below logs: tuned ones fall with the head and with time."""
    outer = config.outer_values()[name]
    if name not in config.tuned:
        return outer
    value = 0.99 - 0.1 * head - 1e-5 * step
    return value * outer if name.startswith("g_") else value


def write_run(directory: Path, agent: str, num_seeds: int = 2, **settings) -> Path:
    directory.mkdir(parents=True)
    config = Config(agent=agent, num_seeds=num_seeds, steps=STEPS[-1], **settings)
    (directory / "config.json").write_text(config.to_json())
    with (directory / "metrics.jsonl").open("w") as file:
        for step in STEPS:
            for seed in range(num_seeds):
                line = {"env_steps": step, "updates": step // 100, "seed": seed}
                line["episode_return"] = None if step == STEPS[0] else step / 100 + 2.0 * seed
                for name in METAPARAMETERS:
                    for head in range(config.heads):
                        line[f"meta/{name}/{head}"] = metaparameter(config, name, head, step)
                file.write(json.dumps(line) + "\n")
    return directory


def panel(figure, title):
    return next(axes for axes in figure.axes if title in axes.get_title())


def curves(axes):
    """The lines over time: not the horizontal outer values."""
    return [line for line in axes.lines if len(line.get_xdata()) != 2 or max(line.get_xdata()) > 1]


def legend_texts(legend):
    return [text.get_text() for text in legend.get_texts()]


def labels(*runs):
    return legend_texts(build_figure(runs).axes[0].get_legend())


@pytest.fixture
def stacx_run(tmp_path: Path) -> RunData:
    return read_run(write_run(tmp_path / "run", "stacx"))


def test_series_are_seeds_by_points_with_nan_for_null(stacx_run):
    np.testing.assert_array_equal(stacx_run.env_steps, STEPS)
    assert stacx_run.seeds == [0, 1]
    assert stacx_run.config.agent == "stacx"
    np.testing.assert_array_equal(
        stacx_run.series("episode_return"), [[np.nan, 20.0, 30.0], [np.nan, 22.0, 32.0]]
    )
    np.testing.assert_allclose(stacx_run.series("meta/lambda/1")[0], [0.88, 0.87, 0.86])


def test_unknown_series_is_a_key_error(stacx_run):
    with pytest.raises(KeyError, match="meta/gamma/3"):
        stacx_run.series("meta/gamma/3")


def test_a_torn_last_line_is_passed_over(tmp_path):
    directory = write_run(tmp_path / "run", "impala")
    metrics = directory / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-20])
    run = read_run(directory)
    np.testing.assert_array_equal(
        run.series("episode_return"), [[np.nan, 20.0, 30.0], [np.nan, 22.0, np.nan]]
    )


def test_where_a_resumed_run_repeats_a_point_the_later_line_counts(tmp_path):
    directory = write_run(tmp_path / "run", "impala", num_seeds=1)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 2000, "seed": 0, "episode_return": 7.0}\n')
    np.testing.assert_array_equal(read_run(directory).series("episode_return"), [[np.nan, 7, 30]])


def test_what_is_no_run_directory_is_named(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=f"{missing} is not a run directory: there is no such"):
        read_run(missing)
    with pytest.raises(ConfigError, match=f"{tmp_path} is not a run directory: it has no config"):
        read_run(tmp_path)
    (tmp_path / "config.json").write_text("not JSON")
    with pytest.raises(ConfigError, match=f"{tmp_path} cannot be read: not a stacx config"):
        read_run(tmp_path)


def test_an_experiment_s_directory_is_no_run(tmp_path):
    write_run(tmp_path / "runs" / "a" / "seed-0", "impala", num_seeds=1)
    with pytest.raises(ConfigError, match=f"{tmp_path / 'runs'} has those of an experiment"):
        read_run(tmp_path)


@pytest.mark.parametrize("metrics", [None, "", '{"env_st'])
def test_a_run_without_metrics_says_so(tmp_path, metrics):
    (tmp_path / "config.json").write_text(Config().to_json())
    if metrics is not None:
        (tmp_path / "metrics.jsonl").write_text(metrics)
    with pytest.raises(ConfigError, match=f"{tmp_path} has no metrics yet"):
        read_run(tmp_path)


def test_a_run_has_a_panel_of_returns_and_one_per_tuned_metaparameter(tmp_path, stacx_run):
    assert len(build_figure([stacx_run]).axes) == 1 + 6
    impala = read_run(write_run(tmp_path / "impala", "impala"))
    assert len(build_figure([impala]).axes) == 1
    two = read_run(write_run(tmp_path / "two", "stac", tune="gamma,g_e"))
    assert len(build_figure([impala, two]).axes) == 1 + 2


def test_returns_are_the_mean_and_the_range_of_the_seeds(stacx_run):
    axes = build_figure([stacx_run]).axes[0]
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), STEPS[1:])
    np.testing.assert_array_equal(line.get_ydata(), [21.0, 31.0])
    (band,) = axes.collections
    extent = band.get_datalim(axes.transData)
    assert (extent.y0, extent.y1) == (20.0, 32.0)
    assert "(mean, min to max of 2 seeds)" in axes.get_ylabel()
    assert legend_texts(axes.get_legend()) == ["stacx"]


def test_one_seed_has_no_band(tmp_path):
    run = read_run(write_run(tmp_path / "run", "stacx", num_seeds=1))
    figure = build_figure([run])
    assert not any(axes.collections for axes in figure.axes)
    assert figure.axes[0].get_ylabel() == "episode return"


def test_heads_of_one_run_are_blue_orange_magenta_and_head_1_is_solid(stacx_run):
    figure = build_figure([stacx_run])
    for axes in figure.axes[1:]:
        lines = curves(axes)
        assert [line.get_color() for line in lines] == ["#0072B2", "#E69F00", "#CC79A7"]
        assert [line.get_linestyle() == "-" for line in lines] == [True, False, False]
    np.testing.assert_allclose(
        curves(panel(figure, "trace decay"))[2].get_ydata(), [0.78, 0.77, 0.76]
    )
    assert legend_texts(figure.legends[0]) == [
        "head 1 (acts)",
        "head 2 (auxiliary)",
        "head 3 (auxiliary)",
        "value in the outer loss",
    ]


def test_loss_weights_are_relative_to_their_outer_value(stacx_run):
    axes = panel(build_figure([stacx_run]), "value loss weight")
    np.testing.assert_allclose(curves(axes)[0].get_ydata(), [0.98, 0.97, 0.96])
    assert axes.get_ylabel() == "inner / outer value"
    (outer,) = [line for line in axes.lines if line not in curves(axes)]
    np.testing.assert_array_equal(outer.get_ydata(), [1.0, 1.0])


def test_a_loss_weight_of_outer_value_0_draws_no_curve(tmp_path):
    run = read_run(write_run(tmp_path / "run", "stac", g_e=0.0))
    assert curves(panel(build_figure([run]), "entropy")) == []


def test_discounts_are_spaced_by_the_logarithm_of_their_horizon(stacx_run):
    axes = panel(build_figure([stacx_run]), "discount")
    to_pixels = axes.transData.transform
    height = {gamma: to_pixels((0, gamma))[1] for gamma in (0.8, 0.9, 0.98, 0.99, 0.995)}
    assert height[0.9] - height[0.8] == pytest.approx(height[0.99] - height[0.98])
    assert height[0.995] - height[0.99] == pytest.approx(height[0.99] - height[0.98])
    low, high = axes.get_ylim()
    assert low < 0.76
    assert 0.99 < high < 1.0
    shown = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert {0.8, 0.99} <= set(shown)


def test_a_discount_of_1_can_be_drawn(tmp_path):
    run = read_run(write_run(tmp_path / "run", "stac", gamma=1.0))
    axes = panel(build_figure([run]), "discount")
    assert np.isfinite(axes.get_ylim()).all()


def test_several_runs_have_a_colour_each_and_tuned_ones_have_curves(tmp_path):
    agents = ("impala", "stac", "impala-aux", "stacx")
    runs = [read_run(write_run(tmp_path / agent, agent)) for agent in agents]
    figure = build_figure(runs)
    returns = figure.axes[0]
    assert legend_texts(returns.get_legend()) == list(agents)
    assert len(returns.collections) == 4  # bands
    colours = [line.get_color() for line in returns.lines]
    assert len(set(colours)) == 4
    alpha = curves(panel(figure, "leaky V-trace"))
    assert [line.get_color() for line in alpha] == [colours[1], *[colours[3]] * 3]
    assert [line.get_linestyle() == "-" for line in alpha] == [True, True, False, False]


def test_runs_of_the_same_agent_are_told_apart(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "a" / "_$first", "stac", num_seeds=1)),
        read_run(write_run(tmp_path / "a" / "second", "stac", num_seeds=1)),
        read_run(write_run(tmp_path / "b" / "second", "stac", num_seeds=1)),
        read_run(write_run(tmp_path / "ablation", "stac", num_seeds=1, tune="gamma")),
    ]
    assert labels(*runs) == [
        r"a/_\$first",
        "a/second",
        "b/second",
        f"{tmp_path.name}/ablation",
    ]


def test_labels_are_agents_if_they_differ_and_else_the_directories_names(tmp_path):
    agents = {"good": "impala", "bad": "impala", "tuned": "stac"}
    good, bad, tuned = (read_run(write_run(tmp_path / n, agent)) for n, agent in agents.items())
    assert labels(good, tuned) == ["impala", "stac"]
    assert labels(good, bad, tuned) == ["good", "bad", "tuned"]
    assert labels(good, good) == ["good", "good"]


def test_numbers_of_seeds_that_differ_are_in_the_labels(tmp_path):
    runs = [
        read_run(write_run(tmp_path / agent, agent, num_seeds=seeds))
        for agent, seeds in (("impala", 1), ("stac", 3))
    ]
    axes = build_figure(runs).axes[0]
    assert legend_texts(axes.get_legend()) == ["impala, 1 seed", "stac, 3 seeds"]
    assert "(mean, min to max of seeds)" in axes.get_ylabel()


def outer_values(figure, title):
    axes = panel(figure, title)
    return [line.get_ydata()[0] for line in axes.lines if line not in curves(axes)]


def test_outer_values_are_those_of_runs_that_tune(tmp_path):
    runs = [
        read_run(write_run(tmp_path / "fixed", "impala", gamma=0.8)),
        read_run(write_run(tmp_path / "tuned", "stac", gamma=0.99)),
        read_run(write_run(tmp_path / "partly", "stac", gamma=0.95, tune="gamma", lambda_=0.5)),
    ]
    figure = build_figure(runs)
    assert outer_values(figure, "discount") == [0.95, 0.99]
    assert outer_values(figure, "trace decay") == [1.0]
    note = figure.legends[0].get_title().get_text()
    assert note == "a run without a line does not tune that metaparameter"
    assert not build_figure(runs[1:2]).legends[0].get_title().get_text()


def pixels(figure, colour) -> int:
    """How many are nearly of this colour."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    wanted = 255 * np.array(to_rgb(colour))
    return int((np.abs(image - wanted).max(axis=-1) < 40).sum())


def test_auxiliary_heads_that_coincide_can_both_be_seen(tmp_path):
    """Each shows nearly as many of its dashes as where the heads are apart."""
    apart = build_figure([read_run(write_run(tmp_path / "a", "stacx", num_seeds=1))])
    directory = write_run(tmp_path / "b", "stacx", num_seeds=1)
    metrics = directory / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    same = [line | {f"meta/{n}/2": line[f"meta/{n}/1"] for n in METAPARAMETERS} for line in lines]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in same))
    together = build_figure([read_run(directory)])
    for colour in ("#E69F00", "#CC79A7"):
        assert pixels(together, colour) > 0.8 * pixels(apart, colour)


def test_more_runs_than_named_colours_still_differ(tmp_path):
    run = read_run(write_run(tmp_path / "run", "impala"))
    lines = build_figure([run] * 9).axes[0].lines
    assert len({tuple(line.get_color()) for line in lines}) == 9


def test_steps_and_title_are_readable(tmp_path):
    directory = write_run(tmp_path / "run", "impala")
    metrics = directory / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("000,", "000000,"))
    figure = build_figure([read_run(directory)])
    axes = figure.axes[0]
    texts = [axes.xaxis.get_major_formatter()(step, 0) for step in (0, 500_000, 3_000_000)]
    assert texts == ["0", "0.5M", "3M"]
    assert figure.get_suptitle() == "gymnax:CartPole-v1"


def test_before_the_first_episode_ends_the_panel_says_so(tmp_path):
    directory = write_run(tmp_path / "run", "impala", num_seeds=1)
    metrics = directory / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    (text,) = build_figure([read_run(directory)]).axes[0].texts
    assert text.get_text() == "no episode has ended yet"


def test_the_figure_is_written_as_its_ending_says(tmp_path):
    directory = write_run(tmp_path / "run", "stacx")
    path = tmp_path / "figures" / "training.png"
    assert plot_runs([directory], path) == path
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width >= 1200
        assert len(image.convert("RGB").getcolors(maxcolors=2**24) or []) > 50
    svg = plot_runs([directory], tmp_path / "training.svg")
    assert "<svg" in svg.read_text()


def test_what_cannot_be_drawn_or_written_is_a_config_error(tmp_path):
    directory = write_run(tmp_path / "run", "impala")
    with pytest.raises(ConfigError, match="no runs to plot"):
        plot_runs([], tmp_path / "figure.png")
    with pytest.raises(ConfigError, match=r"cannot write the figure .*figure\.docx"):
        plot_runs([directory], tmp_path / "figure.docx")
    with pytest.raises(ConfigError, match="cannot write the figure"):
        plot_runs([directory], directory / "config.json" / "figure.png")
