when HTTP_REQUEST priority 10 {
 pool [class lookup [HTTP::path] d]
 if {[class match [HTTP::host] equals d] || ![HTTP::header exists X-A]} { HTTP::header insert lws X-B "$(x)[HTTP::header X-A]" X-C ":c" } elseif {[HTTP::uri] contains "?a"} { HTTP::respond 404 content {<html>{}</html>} } else { return }
}
