"""Is the benchmark what it says: every label late, known cards left out, nothing learned from the future? On made-up payments.

``payments.parquet`` holds 1,500 made-up payments of 21 days in the columns of the public table, written by pandas (Zstandard, dictionary
pages, nulls). Where the public table itself is there, its published size is checked, too.
"""

import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from pipeline.__main__ import main
from pipeline.commands.delayed import DAY_S, Transaction, figures, known_cards, read_transactions, scores_of
from pipeline.commands.model_benchmark import CANDIDATES, CHOSEN, PUBLISHED, rows
from pipeline.commands.parquet import UnreadableTable, read_columns
from pipeline.core.learn.prediction import Prediction
from pipeline.core.learn.schema import FeatureValue, Field, Schema

HERE = Path(__file__).parent
TABLE = HERE / "payments.parquet"
PLACES = (Path(os.environ.get("OFFHOOK_TEST_DATA", "")), HERE.parents[3] / "shared" / "data")
PUBLIC = next((f for place in PLACES for f in sorted((place / "fdh").glob("*.parquet"))), None)


class Spy:
    """A learner that keeps what it was taught, and says how much that was."""

    schema = Schema((Field("amount", "number"),))

    def __init__(self) -> None:
        self.taught: list[tuple[bool, float]] = []

    def learn(self, features: dict[str, FeatureValue], label: bool, weight: float = 1.0) -> None:
        self.taught.append((label, weight))

    def scorer(self) -> "Spy":
        return self

    def predict(self, features: dict[str, FeatureValue]) -> Prediction:
        return Prediction(float(len(self.taught)), 0.0, 0.0, {})


def payments(*days: float, frauds: tuple[int, ...] = ()) -> list[Transaction]:
    return [Transaction(int(day * DAY_S), i, i in frauds, {}) for i, day in enumerate(days)]


def test_a_label_is_learned_when_it_arrives_and_not_before() -> None:
    run = scores_of(Spy(), payments(0, 0.5, 6.9, 7.0, 7.5, 7.6, 15), 7, 5)
    assert run.scores == {2: 0.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 6.0}
    assert run.learned == 6


def test_benign_labels_are_sampled_at_the_weight_of_the_others_and_frauds_all_learned() -> None:
    spy = Spy()
    table = payments(*(i / 1000 for i in range(4000)), 30, frauds=tuple(range(0, 4000, 100)))
    scores_of(spy, table, 7, 20, benign_share=0.25)
    assert sum(y for y, _ in spy.taught) == 40
    assert {w for y, w in spy.taught if y} == {1.0}
    assert {w for y, w in spy.taught if not y} == {4.0}
    assert sum(w for y, w in spy.taught if not y) == pytest.approx(3960, rel=0.1)


def test_cards_are_known_from_the_day_after_their_label() -> None:
    table = payments(0.3, 5.0, 9.9, frauds=(0, 1))
    known = known_cards(table, range(5, 15), 7)
    assert [day for day in known if 0 in known[day]] == list(range(8, 15))
    assert [day for day in known if 1 in known[day]] == [13, 14]
    assert all(2 not in cards for cards in known.values())
    table.append(Transaction(8 * DAY_S, 0, True, {}))
    f = figures([*table, Transaction(8 * DAY_S + 1, 7, True, {})], {3: 0.9, 4: 0.4}, range(8, 9), 7)
    assert (f.transactions, f.frauds) == (1, 1)


def test_a_table_is_read_as_it_was_written() -> None:
    columns = read_columns(TABLE, ("TX_AMOUNT", "TX_FRAUD", "CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"))
    amounts, usual = columns["TX_AMOUNT"], columns["CUSTOMER_ID_AVG_AMOUNT_7DAY_WINDOW"]
    assert len(amounts) == 1500
    assert amounts[:3] == [11.49, 21.23, 14.75]
    assert sum(a or 0 for a in amounts) == pytest.approx(68626.4)
    assert sum(columns["TX_FRAUD"]) == 46  # type: ignore[arg-type]
    assert sum(u is None for u in usual) == 77
    table = read_transactions(TABLE)
    assert [t.time_s for t in table] == sorted(t.time_s for t in table)
    assert sum("card_amount_7d" not in t.features for t in table) == 77
    assert {type(t.features["night"]) for t in table} == {bool}


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    data = TABLE.read_bytes()
    for i, bad in enumerate((b"", b"PAR1", b"not parquet at all, but long enough", data[:-100], data[:2000] + b"x" * 500 + data[2500:])):
        file = tmp_path / f"{i}.parquet"
        file.write_bytes(bad)
        with pytest.raises(UnreadableTable):
            read_columns(file, ("TRANSACTION_ID", "TX_AMOUNT"))
    with pytest.raises(KeyError):
        read_columns(TABLE, ("TX_NOTHING",))


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_the_figures(tmp_path: Path) -> None:
    out = tmp_path / "figures" / "model-benchmark.json"
    result = CliRunner().invoke(main, ["model-benchmark", str(TABLE), "--out", str(out)])
    assert result.exit_code == 0, result.output
    written = msgspec.json.decode(out.read_bytes())
    assert set(written["measured"]) == {row.name for row in rows()}
    assert written["published"]["random forest, batch"]["average_precision"] == PUBLISHED["random forest, batch"][0]
    for name, f in written["measured"].items():
        assert name in result.output
        assert 0.0 <= f["average_precision"] <= 1.0
        assert f["learned"] > 0
    assert "in all" in result.output


def test_wrong_data_is_said_in_one_line(tmp_path: Path) -> None:
    for data, said in ((tmp_path / "none", "not there"), (tmp_path, "0 Parquet files"), (HERE / "worlds.py", "not a Parquet file")):
        result = CliRunner().invoke(main, ["model-benchmark", str(data)])
        assert result.exit_code == 2
        assert said in result.output


def test_what_was_chosen_is_among_what_was_tried() -> None:
    assert CHOSEN in CANDIDATES.values()


@pytest.mark.slow
@pytest.mark.skipif(PUBLIC is None, reason="the public transaction table is not here: set OFFHOOK_TEST_DATA to the folder that holds fdh")
def test_the_public_table_has_its_published_size() -> None:
    assert PUBLIC is not None
    table = read_transactions(PUBLIC)
    assert (len(table), sum(t.fraud for t in table)) == (201_295, 1_792)
    test = figures(table, dict.fromkeys(range(len(table)), 0.5), range(14, 21), 7)
    assert (test.transactions, test.frauds) == (58_264, 385)
