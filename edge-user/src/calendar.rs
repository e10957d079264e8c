//! Dates of Unix seconds, in UTC.

const DAY_SECONDS: i64 = 86_400;

/// A second's date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// The year, before year 1 as ISO 8601 counts.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 6, from Sunday.
    pub weekday: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl DateTime {
    /// By the days-from-civil method: eras of 400 years that begin on 1 March.
    pub fn of_unix(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            // 1970 began on a Thursday.
            weekday: (days + 4).rem_euclid(7),
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_have_dates() {
        let of = |seconds| {
            let DateTime { year, month, day, weekday, hour, minute, second } = DateTime::of_unix(seconds);
            [year, month, day, weekday, hour, minute, second]
        };
        for (seconds, expected) in [
            (0, [1970, 1, 1, 4, 0, 0, 0]),
            (-1, [1969, 12, 31, 3, 23, 59, 59]),
            (951_782_400, [2000, 2, 29, 2, 0, 0, 0]),
            (1_709_251_199, [2024, 2, 29, 4, 23, 59, 59]),
            (4_107_542_400, [2100, 3, 1, 1, 0, 0, 0]),
            (-62_167_219_200, [0, 1, 1, 6, 0, 0, 0]),
            (253_402_300_799, [9999, 12, 31, 5, 23, 59, 59]),
        ] {
            assert_eq!(of(seconds), expected, "{seconds}");
        }
    }
}
