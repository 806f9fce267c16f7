"""Keys, their jobs, and their limits."""

import hashlib

import pytest

import movq_client
from movq_client import Retries
from service.settings import Settings


def entry(name, key):
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


@pytest.fixture
def settings(settings):
    entries = ",".join([entry("alice", "alices"), entry("bob", "bobs")])
    return Settings(**{**settings.model_dump(), "api_keys": entries, "rate_limit": "4/minute"})


@pytest.mark.usefixtures("worker")
def test_each_key_sees_its_own(connect, monkeypatch):
    alice = connect(api_key="alices")
    monkeypatch.setenv("MOVQ_API_KEY", "bobs")
    bob = connect()
    first, second = alice.start_generation("hearts"), alice.start_generation("fruit")
    assert [job.id for job in alice.jobs()] == [second.id, first.id]
    assert [job.id for job in alice.jobs(limit=1)] == [second.id]
    assert bob.jobs() == []
    with pytest.raises(movq_client.NotFound):
        bob.job(first.id)
    assert first.wait()[0].image.size == (64, 64)
    assert first.id in [job.id for job in alice.jobs(status="succeeded")]


def test_no_key_and_a_wrong_one(connect):
    for options in ({}, {"api_key": "nobodys"}):
        with pytest.raises(movq_client.Unauthorized, match="key") as caught:
            connect(**options).generate("hearts")
        assert caught.value.status == 401


def test_who_asks_too_often_is_told_when_to_come_back(connect):
    client = connect(api_key="alices", retries=Retries(attempts=1))
    for _ in range(4):
        client.start_generation("hearts")
    with pytest.raises(movq_client.RateLimited, match="too much") as caught:
        client.start_generation("hearts")
    assert 0 < caught.value.retry_after_s <= 61
