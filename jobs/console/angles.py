"""Angles in options of commands."""

from jobs.console.command import CommandError


def arcsec_of(text: str) -> float:
    """Angle of `--radius`, such as `2arcsec` or `0.1 arcmin`, in arcsec; a number alone is in arcsec.

    Raises:
        CommandError: the text is no angle above 0 and up to 180 degrees.
    """
    import astropy.units as u

    try:
        angle = u.Quantity(text)
        found = float((angle * u.arcsec if angle.unit == u.dimensionless_unscaled else angle).to_value(u.arcsec))
    except (TypeError, ValueError) as error:
        raise CommandError(f"--radius {text}: expected an angle such as 2arcsec") from error
    if not 0 < found <= 3600 * 180:
        raise CommandError(f"--radius {text}: expected an angle above 0 and up to 180 degrees")
    return found
