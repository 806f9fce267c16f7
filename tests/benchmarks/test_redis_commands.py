"""The counting of Redis commands, by what they are for."""

from benchmarks.redis_commands import PURPOSES, Commands

TAKE = next(sha for sha, purpose in PURPOSES.items() if purpose == "take")


def test_what_a_script_runs_belongs_to_the_script():
    commands, purpose = Commands(), "renew"
    told = [(f"EVALSHA {TAKE} 4 rq:queue:movq", False), ("LPOP rq:queue:movq", True), ("hset k v", True)]
    for text, by_script in [*told, ("PING", False), *told]:
        purpose = commands.note(text, by_script, purpose)
    assert commands.purposes == ["take", "renew"]
    assert commands.of("take") == (2, 6)
    assert commands.of("renew") == (1, 1)
    assert commands.names("take") == {"EVALSHA": 2, "LPOP": 2, "HSET": 2}
