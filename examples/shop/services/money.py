"""Amounts are whole cents everywhere; this is where they become words."""


def euros(cents):
    """`123456` -> `1,234.56 EUR`."""
    sign = "-" if cents < 0 else ""
    return "{}{:,}.{:02d} EUR".format(sign, abs(cents) // 100, abs(cents) % 100)


def percent(share):
    """`0.195` -> `19.5 %`."""
    return "{:.1f} %".format(share * 100)


def tax_of(cents, rate):
    """The tax inside a gross amount, rounded to the cent."""
    return round(cents * rate / (1 + rate))
