when HTTP_REQUEST {
    if { [HTTP::path] starts_with "/admin" && ![class match [IP::client_addr] equals dg_office] } {
        HTTP::respond 403 content "<h1>Not for you</h1>" "X-Refused" "office only"
        return
    }
    switch -glob [string tolower [HTTP::path]] {
        "/old/*" -
        "/legacy*" {
            HTTP::redirect "https://shop.example.com/new"
        }
        "/robots.txt" {
            HTTP::respond 200 content "User-agent: *\nDisallow: /orders\n" "Content-Type" "text/plain"
        }
        "/static/*" {
            HTTP::header insert X-Cacheable yes
            pool pool_catalog
        }
        default {
            set target [class match -value [HTTP::path] starts_with d]
            if { $target ne "" } {
                pool $target
            }
        }
    }
    if { [HTTP::path] matches_regex {^/(api|rest)/v[0-9]+/} and ([HTTP::method] eq "POST" or [HTTP::method] eq "PUT") } {
        pool pool_orders
    }
    if { [HTTP::cookie exists "beta"] } {
        pool pool_catalog
    }
}
when CLIENTSSL_CLIENTCERT {
    HTTP::header insert X-Client-Cert [X509::subject [SSL::cert 0]]
}
