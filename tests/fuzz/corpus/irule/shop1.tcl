# Header work of the shop.
when RULE_INIT {
    set static::site "eu-1"
    set static::debug 0
}
when HTTP_REQUEST priority 100 {
    # What clients must not send.
    HTTP::header remove X-Internal-User
    if { [HTTP::header exists "X-Trace"] } {
        HTTP::header remove "X-Trace"
    }
    HTTP::header insert X-Site $static::site
    HTTP::header replace X-Shop-Host [HTTP::host]
    HTTP::header insert X-Forwarded-Proto https
    if { $static::debug } {
        log local0. "debug [HTTP::uri]"
    }
    if { [HTTP::header "User-Agent"] contains "BadBot" } {
        reject
    }
}
when HTTP_RESPONSE {
    HTTP::header remove X-Powered-By
    HTTP::header replace X-Frame-Options DENY
    if { !([HTTP::header exists "X-Content-Type-Options"]) } {
        HTTP::header insert "X-Content-Type-Options" "nosniff"
    }
    if { [HTTP::status] == 500 } {
        HTTP::respond 503 content "sorry"
    }
}
