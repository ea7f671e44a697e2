"""The suite that every store of secret values passes."""

import asyncio

import pytest

from ..secret import SecretMissingError, SecretPort

VALUE = b"correct horse \x00\xff battery"


class SecretSuite:
    """Subclass it and provide the fixtures `secrets`, a store, and `path`, one that nobody has used."""

    async def test_a_value_comes_back_as_it_was(self, secrets: SecretPort, path: str) -> None:
        assert await secrets.put(path, VALUE, expected=0) == 1
        assert await secrets.get(path) == (VALUE, 1)
        assert await secrets.get(path, 1) == (VALUE, 1)

    async def test_a_new_version_leaves_the_older_ones_readable(self, secrets: SecretPort, path: str) -> None:
        for n in range(3):
            assert await secrets.put(path, b"value %d" % n, expected=n) == n + 1
        assert await secrets.get(path) == (b"value 2", 3)
        assert [(await secrets.get(path, n))[0] for n in (1, 2, 3)] == [b"value 0", b"value 1", b"value 2"]

    async def test_the_same_value_again_for_the_same_version_is_success(self, secrets: SecretPort, path: str) -> None:
        for _ in range(2):
            assert await secrets.put(path, b"first", expected=0) == 1
        assert await secrets.put(path, b"second", expected=1) == 2
        assert await secrets.put(path, b"first", expected=0) == 1
        assert await secrets.get(path) == (b"second", 2)

    async def test_the_same_value_may_be_two_versions(self, secrets: SecretPort, path: str) -> None:
        assert await secrets.put(path, VALUE, expected=0) == 1
        assert await secrets.put(path, VALUE, expected=1) == 2

    @pytest.mark.parametrize("expected", [0, 2, 7])
    async def test_another_value_for_a_version_that_is_not_next_is_refused(
        self, secrets: SecretPort, path: str, expected: int
    ) -> None:
        await secrets.put(path, b"first", expected=0)
        with pytest.raises(ValueError, match=path) as refused:
            await secrets.put(path, b"another", expected=expected)
        assert "another" not in repr(refused.value)
        assert await secrets.get(path) == (b"first", 1)

    async def test_of_eight_that_race_for_a_version_one_wins(self, secrets: SecretPort, path: str) -> None:
        async def race(n: int) -> str:
            try:
                await secrets.put(path, b"value %d" % n, expected=0)
            except ValueError:
                return "refused"
            return "kept"

        assert sorted(await asyncio.gather(*map(race, range(8)))) == ["kept"] + ["refused"] * 7
        assert (await secrets.get(path))[1] == 1

    async def test_what_does_not_exist_is_missing(self, secrets: SecretPort, path: str) -> None:
        with pytest.raises(SecretMissingError):
            await secrets.get(path)
        await secrets.put(path, VALUE, expected=0)
        for version in (2, 99):
            with pytest.raises(SecretMissingError):
                await secrets.get(path, version)

    async def test_a_destroyed_version_is_missing_and_the_others_are_not(self, secrets: SecretPort, path: str) -> None:
        for n in range(3):
            await secrets.put(path, b"value %d" % n, expected=n)
        await secrets.destroy(path, [1, 2])
        for version in (1, 2):
            with pytest.raises(SecretMissingError):
                await secrets.get(path, version)
        assert await secrets.get(path) == (b"value 2", 3)

    async def test_destroying_again_or_what_never_was_is_success(self, secrets: SecretPort, path: str) -> None:
        await secrets.destroy(path, [1])
        await secrets.put(path, VALUE, expected=0)
        for _ in range(2):
            await secrets.destroy(path, [1, 5])

    async def test_a_destroyed_version_is_not_given_again(self, secrets: SecretPort, path: str) -> None:
        await secrets.put(path, b"first", expected=0)
        await secrets.destroy(path, [1])
        with pytest.raises(SecretMissingError):
            await secrets.get(path)
        with pytest.raises(ValueError, match=path):
            await secrets.put(path, b"second", expected=0)
        assert await secrets.put(path, b"second", expected=1) == 2
        assert await secrets.get(path) == (b"second", 2)

    async def test_paths_do_not_touch_each_other(self, secrets: SecretPort, path: str) -> None:
        paths = [path, f"{path}2", f"other-{path}"]
        for n, each in enumerate(paths):
            await secrets.put(each, b"value %d" % n, expected=0)
        await secrets.destroy(path, [1])
        assert [(await secrets.get(each))[0] for each in paths[1:]] == [b"value 1", b"value 2"]

    async def test_a_large_value_is_kept(self, secrets: SecretPort, path: str) -> None:
        large = bytes(range(256)) * 256
        await secrets.put(path, large, expected=0)
        assert await secrets.get(path) == (large, 1)

    async def test_nothing_about_a_store_shows_a_value(self, secrets: SecretPort, path: str) -> None:
        await secrets.put(path, b"hunter2hunter2", expected=0)
        assert "hunter2" not in repr(secrets)
