when HTTP_REQUEST {
 if {[HTTP::path] matches_regex {^/(a|b)/.*(png|gif)$} and [string match -nocase "*/X*" [HTTP::path]]} { HTTP::path /c }
 switch -regexp -- [HTTP::uri] { {^/a} - {/b$} { reject } default { HTTP::host h.example.com } }
 if {[HTTP::header X-A] starts_with "a" && [HTTP::header X-A] ends_with "b"} { pool b }
}
