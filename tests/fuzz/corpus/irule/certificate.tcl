when CLIENTSSL_CLIENTCERT {
 if {[SSL::cert count] > 0} { set cert [SSL::cert 0]; set s [X509::subject [SSL::cert 0]] }
}
when HTTP_REQUEST {
 if {[info exists s]} { HTTP::header insert X-S $s } else { HTTP::header remove X-S }
 if {[SSL::cert count] == 0} { HTTP::respond 403 content "{vault://env/X}" noserver X-A [IP::client_addr]:[TCP::client_port] }
 HTTP::header replace X-C [URI::encode [X509::whole [SSL::cert 0]]]
 HTTP::header replace X-Forwarded-For [IP::client_addr]
 HTTP::host [HTTP::header X-Host].test
 HTTP::header sanitize Accept Cookie
}
