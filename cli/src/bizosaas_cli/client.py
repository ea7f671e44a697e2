"""A client of the gateway's HTTP API, for the commands of `bizos`."""

from typing import Any, Self

import httpx


class ProblemError(Exception):
    """The gateway refused: its problem document says why and what to do."""

    def __init__(self, response: httpx.Response) -> None:
        try:
            self.problem: dict[str, Any] = response.json()
        except ValueError:
            self.problem = {"detail": response.text[:200], "status": response.status_code}
        remedy = self.problem.get("remedy", "")
        super().__init__(f"{self.problem.get('detail', response.reason_phrase)} {remedy}".strip())
        self.status = response.status_code


class Client:
    """One signed-in person, or nobody yet."""

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=40, headers=headers)

    @classmethod
    def signed_in(cls, url: str, email: str, password: str) -> Self:
        """A client that is this person. Raises ProblemError."""
        with cls(url) as nobody:
            answer = nobody.ask("POST", "/v1/sessions", {"email": email, "password": password})
        return cls(url, answer["token"])

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The bare response, whatever its status."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, path, json=body, headers=named)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer. Raises ProblemError for a refusal."""
        response = self.send(method, path, body, **headers)
        if response.status_code >= 400:
            raise ProblemError(response)
        return response.json() if response.content else None

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
