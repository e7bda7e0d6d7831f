"""Which words is kept state full of? The dictionary that ``timeline`` packs with: names of fields and usual values, as they stand in it.

Frozen: state that was packed with these bytes can be read with these bytes only. Other words need a new version of the state.
"""

from typing import Final

_EVENTS: Final = (
    "type account_changed event_id account_id occurred_at arrived_at session_id change transfer password_changed payee_added",
    "type line_asked event_id account_id occurred_at arrived_at line on_call since direction source probe device_sdk via app network",
    "type otp_entered event_id account_id occurred_at arrived_at otp_id session_id outcome rejected expired accepted method pasted"
    " autofill typed device_id ip asn country",
    "type otp_dispatched event_id account_id occurred_at arrived_at otp_id session_id phone sender channel push email totp voice sms"
    " purpose password_reset new_payee payment login initiated_by agent customer status failed delivered sent expires_at",
    "type logged_in event_id account_id occurred_at arrived_at session_id outcome failed passed flow password_reset login device_id ip asn"
    " asn_kind hosting proxy corporate mobile residential country user_agent",
    "type message_seen event_id account_id occurred_at arrived_at line direction outbound inbound source carrier peer peer_is_contact"
    " has_code has_link",
    "type call_changed event_id account_id occurred_at arrived_at line call_id state missed ringing ended answered direction outbound"
    " inbound source bank_trunk device_sdk carrier peer peer_abroad attestation C B A peer_line toll_free voip fixed mobile peer_is_contact"
    " peer_is_bank via app network",
)


def _word(word: str) -> bytes:
    return bytes([0xA0 | len(word)]) + word.encode()  # as MessagePack writes a short string


WORDS: Final = b"".join(_word(word) for event in _EVENTS for word in event.split())
