"""Is Faust told what it must be told?"""

from pipeline.live.app import REQUEST_TIMEOUT_S, make_app
from pipeline.settings import Settings

DAY_S = 86_400


def test_a_worker_without_partitions_does_not_leave_the_group_because_it_fetches_nothing() -> None:
    """aiokafka would end its membership after the poll interval, and renew it at the next fetch, which never comes."""
    app = make_app(Settings(), "detect")
    assert app.conf.broker_max_poll_interval >= 7 * DAY_S
    assert int(app.conf.broker_max_poll_interval * 1000) < 2**31, "it is sent as 32 bits of milliseconds"


def test_a_send_may_outlive_a_session_and_faust_keeps_nothing_of_its_own() -> None:
    settings = Settings(session_timeout_s=120)
    app = make_app(settings, "detect")
    assert app.conf.broker_request_timeout > max(REQUEST_TIMEOUT_S, settings.session_timeout_s)
    assert app.conf.stream_wait_empty
    assert not app.conf.web_enabled
    assert not app.conf.topic_allow_declare
