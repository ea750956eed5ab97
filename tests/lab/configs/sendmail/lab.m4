include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
DOMAIN(`debian-mta')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`access_db')dnl
FEATURE(`local_procmail')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl as in Debian's sendmail.mc
DAEMON_OPTIONS(`Name=MTA, Family=inet, Port=smtp')dnl
