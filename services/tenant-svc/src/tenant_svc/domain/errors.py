"""Why tenant-svc refuses."""

from bizosaas_events import DomainError, Kind


class SlugInvalidError(DomainError):
    slug = "slug-invalid"

    def __init__(self, value: str) -> None:
        super().__init__(
            f"{value!r} cannot be a tenant's slug.",
            field="slug",
            remedy="Use 2 to 40 of a-z, 0-9 and hyphen, beginning with a letter.",
        )


class EmailInvalidError(DomainError):
    slug = "email-invalid"

    def __init__(self) -> None:
        # Without what was written: the answer is kept in Redis for a minute, and it may be a person's.
        super().__init__("This is not an e-mail address.", field="email", remedy="Write it as name@example.com.")


class PasswordWeakError(DomainError):
    slug = "password-weak"

    def __init__(self, shortest: int) -> None:
        super().__init__(
            f"The password is shorter than {shortest} characters.", field="password", remedy="Choose a longer one."
        )


class NotSealedError(DomainError):
    slug = "not-sealed"

    def __init__(self, field: str) -> None:
        super().__init__(
            "This was not sealed to tenant-svc's public key.",
            field=field,
            remedy="Give the gateway BIZOS_TENANT_SVC_PUBLIC_KEY of this tenant-svc.",
        )


class RecipientError(DomainError):
    slug = "recipient-invalid"

    def __init__(self) -> None:
        super().__init__("Nothing can be sealed to this key.", field="recipient", remedy="Send an X25519 public key.")


class SlugTakenError(DomainError):
    kind = Kind.CONFLICT
    slug = "slug-taken"

    def __init__(self, value: str) -> None:
        super().__init__(f"There is a tenant with the slug {value!r}.", field="slug", remedy="Choose another one.")


class EmailTakenError(DomainError):
    kind = Kind.CONFLICT
    slug = "email-taken"

    def __init__(self) -> None:
        super().__init__("This e-mail address has an account.", field="email", remedy="Use another address.")


class RoleNotAllowedError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "role-not-allowed"

    def __init__(self, role: str, giver: str) -> None:
        super().__init__(
            f"A {giver} cannot give the role {role} here.",
            field="role",
            remedy="Platform roles exist only in the platform's own tenant, and nobody gives a role above their own.",
        )


class OwnErasureError(DomainError):
    kind = Kind.CONFLICT
    slug = "own-erasure"

    def __init__(self) -> None:
        super().__init__(
            "Nobody erases themselves: the platform always keeps an administrator.",
            field="member_id",
            remedy="Let another administrator do it.",
        )


class MemberAboveError(DomainError):
    kind = Kind.FORBIDDEN
    slug = "member-above-you"

    def __init__(self, role: str) -> None:
        super().__init__(
            f"The member is a {role}.", field="member_id", remedy=f"Let a {role}, or somebody above, erase them."
        )


class SignInRefusedError(DomainError):
    """The same words for an unknown address and for a wrong password, so that neither can be told apart."""

    kind = Kind.UNAUTHENTICATED
    slug = "sign-in-refused"

    def __init__(self) -> None:
        super().__init__("The e-mail address or the password is wrong.", remedy="Check both and try again.")
