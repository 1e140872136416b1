from service.admission.load_shedding import Samples


def test_a_tenant_has_its_own_latest_samples() -> None:
    samples: Samples[int] = Samples(2)
    for number in (1, 2, 3):
        samples.add("a", number)
    samples.add("b", 9)
    assert list(samples.of("a")) == [2, 3]
    assert list(samples.of("b")) == [9]
    assert list(samples.of("c")) == []


def test_a_dropped_sample_stays_away() -> None:
    samples: Samples[int] = Samples(3)
    samples.add("a", 1)
    samples.of("a").popleft()
    samples.add("a", 2)
    assert list(samples.of("a")) == [2]


def test_the_1024_tenants_with_the_latest_samples_are_kept() -> None:
    samples: Samples[int] = Samples(2)
    for number in range(1024):
        samples.add(str(number), number)
    samples.add("0", 0)
    assert samples.of("1")
    samples.add("last", 1024)
    assert not samples.of("1")
    assert all(samples.of(tenant) for tenant in ("0", "2", "1023", "last"))
