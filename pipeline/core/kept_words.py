"""Which bytes do kept features repeat? The dictionary that ``kept`` packs with, trained by zstd on kept features of simulated accounts.

Frozen: what was packed with these bytes can be read with these bytes only.
"""

from base64 import b85decode
from typing import Final

WORDS: Final = b85decode(
    r"H>5D^AJLamHxMA0+5j%77nGX#n}bmM0gz0@g;zuZH^hKor}@%AkL*naaQ>nq$(7yR6&`2AtndEvZ6hL6vj_kK000$8tP21D1ONq<1qCAs1sfIxV^N?`mct;5"
    r"Ll6J}004j~SSbJ)000000JO!60uqWuQE(_68p|LM!fO-_000000096100aO400;m80FjHQZC_|%Ze%gd1i__aY-M3`!o-"
    r"Z+07t{Zz`(%3z|I0UoS4ACz|H^*_JFT!Z)a(4K5ukzK4orna(Ms%!otG9z`(%3z`(%3z`(%6zyZRhZEs>}Y-"
    r"Pg30K>w<z`_9m0RRD|Y;R|2ZliN;bIt&Oia@1wd2nT9!otGC!p?h2^t8ahz`)M{00092jeF<9&HxIjip~HB8?nLw!otGBz?`mcEjKq}HZx%`Wi>EkVy<&7Vl"
    r"ibiV>UHqW@a%p&j0`coQl^4LBtAG2bpKI+v8fCkIhh;r)^(oVQyqG%>v`4V{Bz%a>B%j+yF<z!oa}5z`)J{IqxvQz`)J`1?RZ0Y;R|2Za!~xa6V;jbaHtB0K"
    r"&q;z`(%3z`(%3z`(%3!@vT<rfqLxX>4V}!U4j<!ob1-0RaF2rEG6!X>Ox)ZF9h-ba`-"
    r"PWWvJ2!@|ygP^(wKz`(%I000031Cug~!p;B)mmkgm260!y0K&q;!oZxaZ!Iu1WiVwmGGsA0WHGLDEi+^>W-"
    r">QrHZ);mWzPTr0i2~F4d=uPo@8!BSSSf@J9o`wWT$OkXkl(-F?ywAY-M3`!o;E607t{Zz`(%3z|H}OJV4U_yZcGb0ymtP&cMLHzyQFja%FRAWMyu2X<=-"
    r"@zyQF)!ob1-0RaF2rEG6!X>Ox)ZF9h-ba`-"
    r"PWWvJ2!@|J8z`(%3z`(%50K&q;!oZxaZ!KbEG&M9iWo2PwVmYpJEjTq{GcYwcW;SIpW6uBp0i1U<r4Pgkj$wVJ`@yK%kXy|f#iwmwXkl(-F?ywAY-"
    r"M3`!o+;s07t^Wz`(%3z|H_?rzpU{z|H^&Q0T90Z)a(4K5ukzK4orna(TeOz`(-5z`(%3z`(%3z`(%5&H#afw*kYZZEs>}Y-"
    r"Pg20K&q;z`_9m0ssJ|Y;R|2ZliN;bIt$}kQk+Od2nT9!otGC!oa}5z`(%3z`())!otGBz?`mcEn{RfHD)t7VPrF8H?DInH8n6cH83$aVK6c>&j0`coSpQ9p2"
    r"P~8rDc*sYA6xGVa*w+r)^(oVQyqG2c=_dWnpr{#D&}dN5jIvz`(%3&H!Ug;K0DZ&Hx-jV6SX%XK8LeZ**`zWo~qGc>n;y!otA7z`(%3z`(%3z`(-"
    r"J3q=U+0m7?tWpim{Wo~q7VQj*}0K&q;z`_9m0RRA{Y;R|2ZliN;bIt%A`^cqqd2nT9!otGC!oa}5z`(%50L}md-"
    r">t#`!otGBz?`mcEjKbYW;A6vI59FbHLi0lV>dN0GiG5lWiv4|&j0`coSsiLzr+f@ecv##G=t@LcFj0Gr)^(oVQyqG52a&lWnpr{#EsklN5jIvz`(%3&H&oS("
    r"9QrkkW|h9XQwF603L*Z&Hxyk$ggZ~XK8LeZ**`zWo~qGc>n;y!otA7z`(%3z`(%3z`(-"
    r"J3tl=Q0m7zjZ(?a|Wx~P%!otG9!T|vS005<IZ)a(4qjPO@&H#5(;HGe4b97~7!otGC!oa}5z`(%50L}md*BHV8!otGBz?Gb?Z!KmuG+|>nF*sp4IA*SMEoC+"
    r"|H#lT7V`E}9X3qcs0i1VV?DfP7rn|1gJ5`>&B!tZ@_NQ%MXkl(-F=VA<Y-M3`!o+*r07t{Zz`(%3z|H`!wvfQUz|H^`=SZ(?Z)a(4K5ukzK4orna(Ms%z`(-"
    r"5z`(%3z`(%3z`(%3zyQFeZEs>}Y-PZ}0Kme+z`_9m0RRA{Y;R|2ZliN;bIt&V^suO5b#!lLX>4r5!otJC"
)
