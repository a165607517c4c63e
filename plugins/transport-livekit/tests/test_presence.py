"""When an avatar leaves, worked through in times of its own."""

from __future__ import annotations

from visavis_transport_livekit.presence import Other, Presence

AGENT, USER, RECORDER = Other("agent"), Other("user"), Other("egress", company=False)


def room(agent: str = "agent", *, empty: float | None = 60.0, grace: float = 3.0) -> Presence:
    return Presence(grace, empty, 0.0, agent)


def test_it_stays_with_its_agent() -> None:
    there = room()
    there.came(AGENT)
    assert there.due() is None
    assert there.verdict(1e6) is None


def test_it_leaves_a_while_after_its_agent() -> None:
    there = room()
    there.came(AGENT)
    there.came(USER)
    there.went("agent", 10.0)
    assert there.due() == 13.0
    assert there.verdict(12.9) is None
    assert there.verdict(13.0) == "its agent agent left the room"


def test_an_agent_that_comes_back_in_time_is_served_on() -> None:
    there = room()
    there.came(AGENT)
    there.went("agent", 10.0)
    there.came(AGENT)
    assert there.verdict(1e6) is None
    there.went("agent", 50.0)
    assert there.due() == 53.0


def test_an_agent_that_never_comes_is_not_waited_for_for_ever() -> None:
    there = room()
    there.came(USER)
    assert there.due() == 60.0
    assert there.verdict(60.0) == "its agent agent never came"


def test_it_leaves_an_empty_room_and_is_there_for_who_comes_back() -> None:
    there = room("")
    assert there.due() == 60.0  # nobody was there to begin with
    there.came(USER)
    assert there.due() is None
    there.went("user", 100.0)
    assert there.due() == 160.0
    there.came(Other("user"))
    assert there.due() is None
    there.went("user", 200.0)
    assert there.verdict(259.0) is None
    assert there.verdict(260.0) == "nobody was in the room for 60 s"


def test_recorders_and_other_avatars_are_no_company() -> None:
    there = room("")
    there.came(RECORDER)
    there.came(Other("other-avatar", company=False))
    assert there.due() == 60.0


def test_a_deployment_may_stay_for_ever() -> None:
    there = room("", empty=None)
    assert there.due() is None


def test_nobody_is_missed_while_the_room_is_lost() -> None:
    there = room()
    there.came(AGENT)
    there.excuse(float("inf"))
    there.went("agent", 10.0)
    assert there.verdict(1000.0) is None
    there.excuse(30.0)
    there.sync([USER], 15.0)
    assert there.due() == 30.0
    assert there.verdict(30.0) == "its agent agent left the room"


def test_the_list_after_a_reconnection_stands_for_what_was_missed() -> None:
    there = room()
    there.came(AGENT)
    there.came(USER)
    there.sync([AGENT], 20.0)
    assert there.due() is None
    there.sync([], 25.0)
    assert there.due() == 28.0
