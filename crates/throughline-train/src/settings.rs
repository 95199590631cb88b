#![doc = include_str!("settings.md")]

#[cfg(test)]
mod tests {
    use crate::recipe::settings_page;

    const RENEW: &str = "THROUGHLINE_RENEW_SETTINGS";

    #[test]
    fn the_page_says_what_the_settings_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/settings.md");
        if std::env::var_os(RENEW).is_some() {
            std::fs::write(path, settings_page()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap();
        assert!(
            page == settings_page(),
            "{path} is out of date; renew it with: {RENEW}=1 cargo test -p throughline-train settings"
        );
    }
}
