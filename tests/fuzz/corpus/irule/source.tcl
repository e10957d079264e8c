when CLIENT_ACCEPTED {
 if { not [IP::addr [IP::client_addr] equals 198.51.100.0/24] } { drop }
}
when HTTP_REQUEST {
 if { [HTTP::method] eq "POST" && [IP::addr [IP::client_addr] equals 2001:db8::/32] } { HTTP::respond 403 }
}
