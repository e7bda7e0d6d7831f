"""Does an alert show the account's own normal beside what was seen?"""

from tests.stories import findings, played


def data(name: str) -> dict[str, object]:
    said = [outcome for _, outcome in played(name).said]
    return findings(said, "otp-1")[-1].data


def test_what_was_seen_stands_beside_what_is_usual() -> None:
    shown = data("fraud/r01_hits_stranger_on_the_line")
    assert shown["new_device"] == {"value": True, "usual": 1}
    assert shown["new_network"] == {"value": True, "usual": ["64496"]}
    assert shown["new_country"] == {"value": False, "usual": ["GB"]}
    assert shown["caller_never_seen"] == {"value": True, "usual": 1}
    latency, requests, calls = shown["entry_latency_s"], shown["requests_24h"], shown["calls_in_episode"]
    assert isinstance(latency, dict)
    assert isinstance(requests, dict)
    assert isinstance(calls, dict)
    assert latency["usual"] == 12.0
    assert latency["value"] > latency["usual"]
    assert requests == {"value": 1, "usual_per_day": 0.21}, "six codes in four weeks"
    assert calls["value"] == 1
    assert 0 < calls["usual_per_day"] < 1
    assert "known_devices" not in shown
    assert "codes_usual_per_day" not in shown


def test_the_story_says_what_is_usual() -> None:
    said = [outcome for _, outcome in played("fraud/r01_hits_stranger_on_the_line").said]
    assert "The customer usually enters a code after 12 s, on one known device, about one in 5 days." in findings(said, "otp-1")[-1].story


def test_nothing_is_usual_for_a_new_customer() -> None:
    said = [outcome for _, outcome in played("fraud/v10_wallet_code_without_a_login").said]
    shown = findings(said, "otp-1")[-1].data
    assert "new_device" not in shown, "no device is told"
    assert isinstance(shown["requests_24h"], dict), "the codes of before are known all the same"
