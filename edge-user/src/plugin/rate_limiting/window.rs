//! Fixed windows on the UTC calendar.

/// A period that a limit counts over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

/// The window of a period that a moment falls into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) start_ms: i64,
    /// When the next one begins.
    pub(super) end_ms: i64,
}

const DAY_MS: i64 = 86_400_000;

impl Period {
    /// All of them, the shortest first.
    pub(super) const ALL: [Self; 6] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Year];

    /// As in the configuration and in keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The names of the two response fields that speak of it: limit and remaining.
    pub(super) fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::Second => ("X-RateLimit-Limit-Second", "X-RateLimit-Remaining-Second"),
            Self::Minute => ("X-RateLimit-Limit-Minute", "X-RateLimit-Remaining-Minute"),
            Self::Hour => ("X-RateLimit-Limit-Hour", "X-RateLimit-Remaining-Hour"),
            Self::Day => ("X-RateLimit-Limit-Day", "X-RateLimit-Remaining-Day"),
            Self::Month => ("X-RateLimit-Limit-Month", "X-RateLimit-Remaining-Month"),
            Self::Year => ("X-RateLimit-Limit-Year", "X-RateLimit-Remaining-Year"),
        }
    }

    /// Its length as Kong counts it, for counters in Redis and for `RateLimit-Reset`: months of 30 days, years of 365.
    pub(super) fn length_secs(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }

    /// The window that this moment falls into.
    pub(super) fn window(self, now_ms: i64) -> Window {
        let (start_ms, end_ms) = match self {
            Self::Month | Self::Year => {
                let (year, month) = month_of(now_ms.div_euclid(DAY_MS));
                let ((first, from), (last, to)) = match (self, month) {
                    (Self::Year, _) => ((year, 1), (year + 1, 1)),
                    (_, 12) => ((year, 12), (year + 1, 1)),
                    _ => ((year, month), (year, month + 1)),
                };
                (first_day(first, from) * DAY_MS, first_day(last, to) * DAY_MS)
            }
            _ => {
                let length = self.length_secs() * 1000;
                let start = now_ms.div_euclid(length) * length;
                (start, start + length)
            }
        };
        Window { start_ms, end_ms }
    }

    /// Seconds until Kong lets the window end, at least one.
    pub(super) fn reset_secs(self, window: Window, now_ms: i64) -> i64 {
        (self.length_secs() - (now_ms - window.start_ms).div_euclid(1000)).max(1)
    }
}

/// Year and month (from 1) of a day since 1970, in eras of 400 years that begin on 1 March.
fn month_of(days: i64) -> (i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = ((5 * of_year + 2) / 153 + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month < 3), month)
}

/// The first day of a month, in days since 1970.
fn first_day(year: i64, month: i64) -> i64 {
    let (year, from_march) = (year - i64::from(month < 3), (month + 9) % 12);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * from_march + 2) / 5 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_are_the_calendars() {
        // 2024-02-29T12:34:56.789Z, and the last millisecond of 2023.
        for (now, period, start, end) in [
            (1_709_210_096_789, Period::Second, 1_709_210_096_000, 1_709_210_097_000),
            (1_709_210_096_789, Period::Minute, 1_709_210_040_000, 1_709_210_100_000),
            (1_709_210_096_789, Period::Hour, 1_709_208_000_000, 1_709_211_600_000),
            (1_709_210_096_789, Period::Day, 1_709_164_800_000, 1_709_251_200_000),
            (1_709_210_096_789, Period::Month, 1_706_745_600_000, 1_709_251_200_000),
            (1_709_210_096_789, Period::Year, 1_704_067_200_000, 1_735_689_600_000),
            (1_704_067_199_999, Period::Month, 1_701_388_800_000, 1_704_067_200_000),
            (1_704_067_199_999, Period::Year, 1_672_531_200_000, 1_704_067_200_000),
            (0, Period::Year, 0, 31_536_000_000),
        ] {
            assert_eq!(period.window(now), Window { start_ms: start, end_ms: end }, "{period:?} {now}");
        }
    }

    #[test]
    fn resets_count_months_of_thirty_days() {
        let secs = |period: Period, now: i64| period.reset_secs(period.window(now), now);
        for (period, now, expected) in [
            (Period::Second, 500, 1),
            (Period::Minute, 0, 60),
            (Period::Minute, 59_999, 1),
            (Period::Minute, 30_500, 30),
            (Period::Hour, 3_599_000, 1),
            (Period::Month, 0, 2_592_000),
            // The 31st of January 1970, and the last day of a leap year.
            (Period::Month, 30 * DAY_MS + 5_000, 1),
            (Period::Year, 1_735_603_200_000, 1),
        ] {
            assert_eq!(secs(period, now), expected, "{period:?} {now}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_falls_into_one_window(now in -10_000_000_000_000_i64..100_000_000_000_000) {
            for period in Period::ALL {
                let window = period.window(now);
                prop_assert!(window.start_ms <= now && now < window.end_ms, "{period:?}");
                // The same window from its first to its last moment, and others on both sides.
                prop_assert_eq!(period.window(window.start_ms), window);
                prop_assert_eq!(period.window(window.end_ms - 1), window);
                prop_assert_eq!(period.window(window.end_ms).start_ms, window.end_ms);
                prop_assert_eq!(period.window(window.start_ms - 1).end_ms, window.start_ms);
                let days = (window.end_ms - window.start_ms) / DAY_MS;
                match period {
                    Period::Month => prop_assert!((28..=31).contains(&days)),
                    Period::Year => prop_assert!((365..=366).contains(&days)),
                    _ => prop_assert_eq!(window.end_ms - window.start_ms, period.length_secs() * 1000),
                }
                prop_assert!(period.reset_secs(window, now) >= 1);
            }
        }
    }
}
