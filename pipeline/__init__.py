"""OffHook: catch OTP-bot account takeovers while the victim is still on the phone.

The flow, in ten lines:

    raw topics (logins, otp-dispatches, otp-entries, telephony, phone-links, account-changes, dispositions, snoozes)
      -> wire.ingest    validate, pseudonymise, key by account or by phone line; what cannot be read becomes a dead letter
      -> events, lines  the canonical logs
      -> core.route     phone line -> accounts (calls, messages and line changes reach the accounts they concern)
      -> core.partition one partition of ``events``: the clock made of beats, deadlines, and for every account
      -> core.detector  THE FOLD: step(timeline, event) -> (timeline, outcomes)
           timeline     sealed profile + set of recent events
           episode      one OTP challenge and all that surrounds it
           features -> rules, model -> decision -> alert
      -> alerts, decisions, holds, dead-letters; sightings
      -> core.gatherer  whom several accounts met within the hour: campaigns, and surges of codes, told to every partition of ``events``

Glossary: *event* a fact about an account; *line* a phone line, known by a keyed pseudonym; *peer* the other end of a call or
message; *challenge* one one-time code, resends included; *episode* a challenge with its login, calls, messages and entry;
*entry* the code being entered; *assessment* what an episode looks like now; *decision* an assessment worth keeping;
*finding* what an alert reports; *hold* the advice to refuse a code for now; *beat* the clock inside the log; *late* an event
that arrived too long after it occurred; *sighting* whom an account met while a code was open; *entity* such a caller, text sender,
device or address; *campaign* an entity that several accounts met within the hour; *surge* five minutes in which more accounts of the
whole bank were sent a code than is usual; *baseline* what is normal for everybody, from past days, in the policy.

Reading order: core.events, core.policy, core.episode, core.features, core.rules, core.model, core.detector, then wire.ingest,
replay.run and live.app.
"""
