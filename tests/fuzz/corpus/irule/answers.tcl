when HTTP_RESPONSE {
 if {[HTTP::status] starts_with "50"} { HTTP::respond 503 content "sorry $\{\{" "Content-Type" "text/plain" }
 switch [HTTP::status] { 404 - 410 { HTTP::header insert Cache-Control no-store } default { HTTP::header remove X-A } }
 if {[HTTP::is_redirect]} { HTTP::header replace Location [string map {http:// https://} [HTTP::header value Location]] }
 foreach c [HTTP::cookie names] { HTTP::cookie secure $c enable; HTTP::cookie httponly $c enable }
 HTTP::cookie path sid /a
 HTTP::cookie encrypt sid key
 HTTP::header sanitize X-A X-B
 HTTP::header insert X-L "$(x)[HTTP::header Location][HTTP::host]"
}
