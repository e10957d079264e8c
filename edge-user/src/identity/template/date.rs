//! Times in the layouts of Go's package time: the reference time, Mon Jan 2 15:04:05 2006, in the form that is wanted.
//! In UTC.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const DAY_SECONDS: i64 = 86_400;
/// Years 0 to 9999: what four digits hold.
const SECONDS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

/// A moment's parts.
struct Moment {
    year: i64,
    month: i64,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

/// Seconds since 1970 in this layout.
pub(super) fn format(layout: &str, seconds: i64) -> Result<String, String> {
    if !SECONDS.contains(&seconds) {
        return Err(format!("{seconds}, expected seconds of a year with four digits"));
    }
    let (moment, mut out, mut rest) = (Moment::new(seconds), String::new(), layout);
    'layout: while let Some(next) = rest.chars().next() {
        for (element, write) in ELEMENTS {
            if let Some(after) = rest.strip_prefix(element) {
                out.push_str(&write(&moment));
                rest = after;
                continue 'layout;
            }
        }
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    Ok(out)
}

type Write = fn(&Moment) -> String;

/// Longer ones before those that begin alike.
const ELEMENTS: [(&str, Write); 22] = [
    ("2006", |moment| format!("{:04}", moment.year)),
    ("January", |moment| moment.month_name().to_owned()),
    ("Jan", |moment| moment.month_name()[..3].to_owned()),
    ("Monday", |moment| DAYS[moment.weekday].to_owned()),
    ("Mon", |moment| DAYS[moment.weekday][..3].to_owned()),
    ("MST", |_| "UTC".to_owned()),
    ("01", |moment| format!("{:02}", moment.month)),
    ("02", |moment| format!("{:02}", moment.day)),
    ("03", |moment| format!("{:02}", moment.hour_of_half())),
    ("04", |moment| format!("{:02}", moment.minute)),
    ("05", |moment| format!("{:02}", moment.second)),
    ("06", |moment| format!("{:02}", moment.year % 100)),
    ("15", |moment| format!("{:02}", moment.hour)),
    ("PM", |moment| if moment.hour < 12 { "AM" } else { "PM" }.to_owned()),
    ("Z07:00", |_| "Z".to_owned()),
    ("-07:00", |_| "+00:00".to_owned()),
    ("-0700", |_| "+0000".to_owned()),
    ("1", |moment| moment.month.to_string()),
    ("2", |moment| moment.day.to_string()),
    ("3", |moment| moment.hour_of_half().to_string()),
    ("4", |moment| moment.minute.to_string()),
    ("5", |moment| moment.second.to_string()),
];

impl Moment {
    /// After Howard Hinnant's "chrono-compatible low-level date algorithms".
    fn new(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(DAY_SECONDS), seconds.rem_euclid(DAY_SECONDS));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: of_year - (153 * shifted_month + 2) / 5 + 1,
            // 1970 began on a Thursday.
            weekday: (days + 4).rem_euclid(7) as usize,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn month_name(&self) -> &'static str {
        MONTHS[(self.month - 1) as usize]
    }

    fn hour_of_half(&self) -> i64 {
        (self.hour + 11) % 12 + 1
    }
}
